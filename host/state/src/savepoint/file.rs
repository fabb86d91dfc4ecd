//! Files of a table: Parquet, compressed with ZSTD, in row groups small enough that one key is found quickly.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use millrace_core::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::split::BATCH_ROWS;
use crate::codes;
use crate::format::{Layer, layer};

/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// A table goes on in another file when one has this many rows, so that a subtask reads little but its own.
const FILE_ROWS_MAX: u64 = 1 << 20;

/// A file that is complete.
pub(crate) struct Encoded {
    pub(crate) file: Layer,
    pub(crate) content: Bytes,
}

/// Encodes the rows of a table, in their order, as files.
pub(crate) struct TableWriter {
    folder: String,
    schema: SchemaRef,
    properties: WriterProperties,
    count: usize,
    open: Option<Open>,
}

struct Open {
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
    groups: [u32; 2],
}

impl TableWriter {
    /// Files will be named by their folder and a number. `keys` columns behind the first are the key, of which there
    /// are about so many.
    pub(crate) fn new(folder: String, schema: SchemaRef, keys: usize, entries: u64) -> Self {
        let mut with_filters = properties();
        let keys = schema.fields().iter().skip(1).take(keys);
        // Whether a row group has a key is told from a few bytes of it.
        for key in keys.filter(|key| !key.data_type().is_nested()) {
            let column = ColumnPath::from(key.name().as_str());
            with_filters = with_filters
                .set_column_bloom_filter_enabled(column.clone(), true)
                .set_column_bloom_filter_max_ndv(column, entries.clamp(1, ROW_GROUP_ROWS as u64));
        }
        TableWriter {
            folder,
            properties: with_filters.build(),
            schema,
            count: 0,
            open: None,
        }
    }

    /// Adds rows; a file that got full.
    pub(crate) fn push(&mut self, rows: &RecordBatch) -> Result<Option<Encoded>> {
        let groups = layer::key_groups(rows, super::layout::KEY_GROUP).map_err(Error::internal)?;
        let Some(span) = span(groups.values()) else {
            return Ok(None);
        };
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let writer = ArrowWriter::try_new(Vec::new(), self.schema.clone(), Some(self.properties.clone()));
                none.insert(Open {
                    writer: writer.map_err(|error| unwritable(&self.folder, &error))?,
                    rows: 0,
                    groups: span,
                })
            }
        };
        open.writer
            .write(rows)
            .map_err(|error| unwritable(&self.folder, &error))?;
        open.rows += rows.num_rows() as u64;
        open.groups = [open.groups[0].min(span[0]), open.groups[1].max(span[1])];
        if open.rows < FILE_ROWS_MAX {
            return Ok(None);
        }
        self.finish()
    }

    /// The file under way, if there is one.
    pub(crate) fn finish(&mut self) -> Result<Option<Encoded>> {
        let Some(open) = self.open.take() else {
            return Ok(None);
        };
        let content = open
            .writer
            .into_inner()
            .map_err(|error| unwritable(&self.folder, &error))?;
        let file = Layer {
            file: format!("{}/{:04}.parquet", self.folder, self.count),
            rows: open.rows,
            bytes: content.len() as u64,
            checksum: layer::checksum(&content),
            groups: open.groups,
        };
        self.count += 1;
        Ok(Some(Encoded {
            file,
            content: content.into(),
        }))
    }
}

fn span(groups: &[u32]) -> Option<[u32; 2]> {
    Some([*groups.iter().min()?, *groups.iter().max()?])
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_writer_version(WriterVersion::PARQUET_1_0) // what every reader knows
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
}

fn unwritable(folder: &str, error: &ParquetError) -> Error {
    Error::user(
        codes::TABLE,
        format!("`{folder}` cannot be written as Parquet: {error}"),
    )
}

/// Rows as one Parquet file, such as those of a table of several.
///
/// # Errors
/// `CS0203` if they cannot be written as Parquet.
pub fn to_parquet(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Bytes> {
    let failed = |error: ParquetError| unwritable("the table", &error);
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties().build())).map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    Ok(writer.into_inner().map_err(failed)?.into())
}

/// The rows of a Parquet file that anybody wrote.
///
/// # Errors
/// `CS0206` if it is none.
pub fn from_parquet(content: Bytes) -> Result<Vec<RecordBatch>> {
    let failed = |error: &dyn std::fmt::Display| Error::user(codes::UNFIT, format!("not a table in Parquet: {error}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(content).map_err(|error| failed(&error))?;
    let reader = builder
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| failed(&error))?;
    reader.map(|batch| batch.map_err(|error| failed(&error))).collect()
}

/// The rows of a file whose checksum was found right.
pub(crate) fn decode(file: &Layer, schema: &SchemaRef, content: Bytes, shown: &str) -> Result<Vec<RecordBatch>> {
    let unsound = |why: &str| Error::external(codes::DAMAGED, format!("`{shown}` is not a sound table: {why}"));
    let failed = |error: ParquetError| unsound(&error.to_string());
    let builder = ParquetRecordBatchReaderBuilder::try_new(content).map_err(failed)?;
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(failed)?;
    let mut batches = Vec::new();
    let mut rows = 0;
    for batch in reader {
        let batch = batch.map_err(|error| unsound(&error.to_string()))?;
        // What others wrote may say less: a field that has no nulls need not be declared so.
        let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec())
            .map_err(|error| unsound(&format!("its columns are not those of the manifest: {error}")))?;
        let groups = layer::key_groups(&batch, super::layout::KEY_GROUP).map_err(|why| unsound(&why))?;
        let [first, last] = file.groups;
        if !groups.values().iter().all(|group| (first..=last).contains(group)) {
            return Err(unsound(&format!("rows outside of key groups {first} to {last}")));
        }
        rows += batch.num_rows() as u64;
        batches.push(batch);
    }
    if rows != file.rows {
        return Err(unsound(&format!("{rows} rows instead of {}", file.rows)));
    }
    Ok(batches)
}
