//! Files: text, CSV, JSON lines, Parquet and Avro.

use std::marker::PhantomData;
use std::time::Duration;

use super::options::{Options, any_option, csv_options, reject_option};
use super::{Description, Reject, Sink, Source};
use crate::bindings::dataflow as wit;
use crate::value::Record;

/// Reads and writes files: text, CSV, JSON lines, Parquet and Avro.
///
/// Sources take a file, a folder or a glob. Columns go by name: what the file has beyond the record's
/// columns is skipped, and what it lacks must be an `Option`. Sinks take a folder, in which each subtask
/// writes parts; a part appears under its name when it is complete.
///
/// The folder of a sink may be one in an object store: `s3://bucket/out`, `gs://bucket/out`, `az://container/out`,
/// with credentials from the environment. There a part is an upload that is completed when the checkpoint has been.
/// Give the bucket a lifecycle rule that aborts incomplete uploads after some days: those of a process that was
/// killed stay until then.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Flight { carrier: String, delay: Option<i64> }
///
/// fn copy(flow: &Flow) {
///     let flights = flow.source("flights", Files::csv::<Flight>("flights/*.csv.gz").null("NA"));
///     flights.sink("out", Files::to_parquet("flights-parquet").compression(Compression::Zstd));
/// }
/// ```
#[derive(Debug)]
pub struct Files;

impl Files {
    /// Reads lines. The record has one field, of text.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// #[derive(Record)]
    /// struct Line<'a> { text: &'a str }
    ///
    /// let lines = Files::text::<Line<'static>>("input.txt");
    /// ```
    pub fn text<T: Record>(path: impl Into<String>) -> FilesSource<T> {
        FilesSource::new(path, "text")
    }

    /// Reads CSV.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::csv::<Row>("rows.csv").delimiter(';');
    /// ```
    pub fn csv<T: Record>(path: impl Into<String>) -> FilesSource<T> {
        FilesSource::new(path, "csv")
    }

    /// Reads lines of JSON.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::ndjson::<Row>("rows/").on_reject(Reject::Skip);
    /// ```
    pub fn ndjson<T: Record>(path: impl Into<String>) -> FilesSource<T> {
        FilesSource::new(path, "ndjson")
    }

    /// Reads Parquet.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::parquet::<Row>("rows/*.parquet");
    /// ```
    pub fn parquet<T: Record>(path: impl Into<String>) -> FilesSource<T> {
        FilesSource::new(path, "parquet")
    }

    /// Reads Avro object container files.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::avro::<Row>("rows/*.avro");
    /// ```
    pub fn avro<T: Record>(path: impl Into<String>) -> FilesSource<T> {
        FilesSource::new(path, "avro")
    }

    /// Writes lines. The record has one field, of text.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let lines = Files::to_text("out");
    /// ```
    pub fn to_text(folder: impl Into<String>) -> FilesSink {
        FilesSink::new(folder, "text")
    }

    /// Writes CSV.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Files::to_csv("out").header(false);
    /// ```
    pub fn to_csv(folder: impl Into<String>) -> FilesSink {
        FilesSink::new(folder, "csv")
    }

    /// Writes lines of JSON.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Files::to_ndjson("out").compression(Compression::Gzip);
    /// ```
    pub fn to_ndjson(folder: impl Into<String>) -> FilesSink {
        FilesSink::new(folder, "ndjson")
    }

    /// Writes Parquet.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Files::to_parquet("out").roll_rows(1_000_000);
    /// ```
    pub fn to_parquet(folder: impl Into<String>) -> FilesSink {
        FilesSink::new(folder, "parquet")
    }

    /// Writes Avro object container files, with a schema made from the record's.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Files::to_avro("out").codec(AvroCodec::Deflate);
    /// ```
    pub fn to_avro(folder: impl Into<String>) -> FilesSink {
        FilesSink::new(folder, "avro")
    }
}

/// How the blocks of an Avro file are compressed.
///
/// ```
/// # use millrace::prelude::*;
/// let rows = Files::to_avro("out").codec(AvroCodec::Snappy);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AvroCodec {
    /// Not at all.
    None,
    /// By deflate, which every implementation of Avro knows.
    Deflate,
    /// By Snappy.
    Snappy,
    /// By Zstandard.
    Zstd,
}

/// How files are compressed.
///
/// ```
/// # use millrace::prelude::*;
/// let rows = Files::to_ndjson("out").compression(Compression::Zstd);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As the name of the file says: `.gz`, `.zst` or neither. For reading only.
    Auto,
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
    /// By Zstandard.
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::Auto => "auto",
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

/// Reads files: made by [`Files`].
#[derive(Debug)]
pub struct FilesSource<T> {
    options: Options,
    on_reject: Reject,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> FilesSource<T> {
    fn new(path: impl Into<String>, format: &str) -> Self {
        let mut options = Options::default();
        options.set("path", path.into());
        options.set("format", format);
        FilesSource {
            options,
            on_reject: Reject::Fail,
            record: PhantomData,
        }
    }

    /// How the files are compressed. Without this, as their names say.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::csv::<Row>("rows.bin").compression(Compression::Gzip);
    /// ```
    pub fn compression(self, compression: Compression) -> Self {
        self.option("compression", compression.name())
    }

    /// Reads on when files grow, and reads files that come: the source does not end. Text, CSV and JSON lines only, and
    /// only whole lines; compressed files and Parquet are taken whole, as by [`watch`](Self::watch).
    ///
    /// A file may be renamed (rotated): it is read to its end under its new name. One that was cut, or is gone before it
    /// was read, is a rejected row ([`on_reject`](Self::on_reject)).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::ndjson::<Row>("/var/log/app/*.ndjson").follow();
    /// ```
    pub fn follow(self) -> Self {
        self.option("mode", "follow")
    }

    /// Reads files that come, each as a whole, once it has stayed the same from one look to the next: the source does
    /// not end. Move files into the folder when they are complete, or write them under a name that begins with `.`
    /// or `_`.
    ///
    /// Event time goes by the files that are being read, in all subtasks, and stands still when all are read, until another
    /// comes: with [`idle_after`](crate::stream::Watermarks::idle_after) the source then holds up no other.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::parquet::<Row>("inbox").watch();
    /// ```
    pub fn watch(self) -> Self {
        self.option("mode", "watch")
    }

    /// How often a source that follows or watches looks for what is new. Without this, each second.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::csv::<Row>("inbox").watch().scan_interval(Duration::from_secs(10));
    /// ```
    pub fn scan_interval(self, interval: Duration) -> Self {
        self.option("scan.ms", interval.as_millis())
    }

    /// How many files may be there at a time for a source that follows or watches: it remembers each until it is gone.
    /// Without this, 10,000.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::csv::<Row>("inbox").watch().files_max(100_000);
    /// ```
    pub fn files_max(self, files: u64) -> Self {
        self.option("files.max", files)
    }

    /// CSV: what encloses text that contains delimiters. Without this, `"`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Files::csv::<Row>("rows.csv").quote('\'');
    /// ```
    pub fn quote(self, quote: char) -> Self {
        self.option("csv.quote", quote)
    }

    csv_options!("Files::csv::<Row>(\"rows.csv\")");
    reject_option!("Files::csv::<Row>(\"rows.csv\")");
    any_option!("let rows = Files::csv::<Row>(\"rows.csv\").option(\"csv.header\", false);");
}

impl<T: Record> Source for FilesSource<T> {
    type Record = T;

    fn into_description(self) -> Description {
        Description {
            kind: "files".to_owned(),
            options: self.options.into_list(),
            on_reject: self.on_reject,
        }
    }
}

/// Writes files: made by [`Files`].
#[derive(Debug)]
pub struct FilesSink {
    options: Options,
}

impl FilesSink {
    fn new(folder: impl Into<String>, format: &str) -> Self {
        let mut options = Options::default();
        options.set("path", folder.into());
        options.set("format", format);
        FilesSink { options }
    }

    /// How the files are compressed; Parquet does it inside the file. Without this, as the connector likes.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Files::to_csv("out").compression(Compression::Gzip);
    /// ```
    pub fn compression(self, compression: Compression) -> Self {
        self.option("compression", compression.name())
    }

    /// Avro: how its blocks are compressed. Without this, not at all.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Files::to_avro("out").codec(AvroCodec::Zstd);
    /// ```
    pub fn codec(self, codec: AvroCodec) -> Self {
        let name = match codec {
            AvroCodec::None => "none",
            AvroCodec::Deflate => "deflate",
            AvroCodec::Snappy => "snappy",
            AvroCodec::Zstd => "zstd",
        };
        self.option("avro.codec", name)
    }

    /// Begins a new part after that many bytes.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Files::to_csv("out").roll_bytes(1 << 30);
    /// ```
    pub fn roll_bytes(self, bytes: u64) -> Self {
        self.option("roll.bytes", bytes)
    }

    /// Begins a new part after that many rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Files::to_csv("out").roll_rows(1_000_000);
    /// ```
    pub fn roll_rows(self, rows: u64) -> Self {
        self.option("roll.rows", rows)
    }

    csv_options!("Files::to_csv(\"out\")");
    any_option!("let rows = Files::to_csv(\"out\").option(\"csv.header\", false);");
}

impl Sink for FilesSink {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: "files".to_owned(),
            options: self.options.into_list(),
        }
    }
}
