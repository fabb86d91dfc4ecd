//! Tables of a SQLite database.

use std::marker::PhantomData;

use super::options::{Options, any_option, reject_option};
use super::{Description, KeyedTable, Reject, Sink, Source};
use crate::bindings::dataflow as wit;
use crate::value::Record;

/// Reads and writes tables of a SQLite database, which is a file.
///
/// Columns go by name. The source reads a table in the order of its rowids, divided among the subtasks, up to the last row
/// that is there when the job starts. Values mean what they mean in JSON lines: times are text in ISO 8601 or numbers of
/// the type's units since 1970, lists and structs are text in JSON; what does not fit is a rejected row.
///
/// The sink writes each row exactly once: rows wait in the checkpoint, and when that is complete they are written in
/// transactions that hold a mark as well (in table `millrace_marks`). Subtasks take turns, for SQLite has one writer.
/// Do not run two jobs of the same name on the same table, or tell them apart by [`id`](SqliteSink::id).
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Sale { shop: i64, cents: i64 }
///
/// fn refunds(flow: &Flow) {
///     flow.source("sales", Sqlite::table::<Sale>("shop.db", "sales"))
///         .filter(|sale| sale.cents < 0)
///         .sink("refunds", Sqlite::to("shop.db", "refunds").create(true));
/// }
/// ```
#[derive(Debug)]
pub struct Sqlite;

impl Sqlite {
    /// Reads a table.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Sqlite::table::<Row>("notes.db", "notes");
    /// ```
    pub fn table<T: Record>(path: impl Into<String>, table: impl Into<String>) -> SqliteSource<T> {
        SqliteSource {
            options: options(path, table),
            on_reject: Reject::Fail,
            record: PhantomData,
        }
    }

    /// Writes to a table.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Sqlite::to("notes.db", "notes");
    /// ```
    pub fn to(path: impl Into<String>, table: impl Into<String>) -> SqliteSink {
        SqliteSink {
            options: options(path, table),
        }
    }
}

fn options(path: impl Into<String>, table: impl Into<String>) -> Options {
    let mut options = Options::default();
    options.set("path", path.into());
    options.set("table", table.into());
    options
}

/// Reads a table: made by [`Sqlite`].
#[derive(Debug)]
pub struct SqliteSource<T> {
    options: Options,
    on_reject: Reject,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> SqliteSource<T> {
    /// Reads only rows for which this condition of SQL is true.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Sqlite::table::<Row>("notes.db", "notes").filter("year >= 2020 AND text <> ''");
    /// ```
    pub fn filter(self, condition: &str) -> Self {
        self.option("where", condition)
    }

    reject_option!("Sqlite::table::<Row>(\"notes.db\", \"notes\")");
    any_option!("let rows = Sqlite::table::<Row>(\"notes.db\", \"notes\").option(\"where\", \"year = 2020\");");
}

impl<T: Record> Source for SqliteSource<T> {
    type Record = T;

    fn into_description(self) -> Description {
        Description {
            kind: "sqlite".to_owned(),
            options: self.options.into_list(),
            on_reject: self.on_reject,
        }
    }
}

impl<T: Record> KeyedTable for SqliteSource<T> {
    type Record = T;

    fn into_table(self) -> Description {
        self.into_description()
    }
}

/// Writes to a table: made by [`Sqlite`].
#[derive(Debug)]
pub struct SqliteSink {
    options: Options,
}

impl SqliteSink {
    /// Rows replace those with the same values in these columns, over which the table must have a primary key or a unique
    /// index.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Sqlite::to("sales.db", "totals").upsert(["shop", "day"]);
    /// ```
    pub fn upsert<C: AsRef<str>>(self, key: impl IntoIterator<Item = C>) -> Self {
        let key: Vec<String> = key.into_iter().map(|column| column.as_ref().to_owned()).collect();
        self.option("key", key.join(","))
    }

    /// Makes the file and the table if they are not there. Without this, they must be.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Sqlite::to("sales.db", "totals").create(true);
    /// ```
    pub fn create(self, create: bool) -> Self {
        self.option("create", create)
    }

    /// Writes that many rows in a transaction. Without this, 10,000.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Sqlite::to("sales.db", "totals").batch_rows(1_000);
    /// ```
    pub fn batch_rows(self, rows: u64) -> Self {
        self.option("batch.rows", rows)
    }

    /// How many bytes of rows of one subtask may wait for a checkpoint, compressed. Without this, 64 MiB.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Sqlite::to("sales.db", "totals").log_bytes(256 << 20);
    /// ```
    pub fn log_bytes(self, bytes: u64) -> Self {
        self.option("log.bytes", bytes)
    }

    /// Tells this job from others of the same name that write to the same database.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Sqlite::to("sales.db", "totals").id("staging");
    /// ```
    pub fn id(self, id: &str) -> Self {
        self.option("id", id)
    }

    any_option!("let totals = Sqlite::to(\"sales.db\", \"totals\").option(\"create\", true);");
}

impl Sink for SqliteSink {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: "sqlite".to_owned(),
            options: self.options.into_list(),
        }
    }
}
