//! The source: a table, by ranges of its rowids.
//!
//! Rows are read in the order of their rowids, a block at a time; a position is the last rowid given. What is changed
//! while the job reads is seen or not, as it comes; rows behind the greatest rowid at the start are not read. Values
//! go through JSON lines, so that texts and numbers mean what they mean there, and what does not fit is a rejected row.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_schema::{DataType, FieldRef, SchemaRef};
use millrace_core::connector::{
    Boundedness, Elapsed, Options, Poll, Position, Rejected, Rows, Source, Split, SplitReader, SubtaskContext,
};
use millrace_core::{Error, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};

use super::{columns, failed, misfit, open, quoted};
use crate::format::{Format, ndjson_rows};
use crate::position;

/// See the module's documentation.
pub(super) struct SqliteSource(Arc<Settings>);

/// A table and what of it is read.
pub(super) struct Settings {
    pub(super) path: String,
    pub(super) table: String,
    /// Condition for rows to be read.
    pub(super) filter: Option<String>,
    pub(super) schema: SchemaRef,
}

impl SqliteSource {
    /// From the options in the pipeline.
    pub(super) fn new(options: Options, schema: SchemaRef) -> Result<Self> {
        Ok(SqliteSource(Arc::new(Settings::take(options, schema)?)))
    }
}

impl Settings {
    pub(super) fn take(mut options: Options, schema: SchemaRef) -> Result<Self> {
        let path = options.required("path")?;
        let table = options.required("table")?;
        let filter = options.text("where");
        options.finish()?;
        Format::Ndjson.check_schema(&schema)?;
        Ok(Settings {
            path,
            table,
            filter,
            schema,
        })
    }

    pub(super) fn open(&self) -> Result<Connection> {
        open(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    pub(super) fn failed(&self, error: &rusqlite::Error) -> Error {
        failed(&self.path, &format!("table `{}` cannot be read", self.table), error)
    }

    /// For each declared column, whether the table has it.
    pub(super) fn present(&self, connection: &Connection) -> Result<Vec<bool>> {
        let names = columns(connection, &self.path, &self.table)?;
        let is_there = |field: &FieldRef| names.iter().any(|name| name.eq_ignore_ascii_case(field.name()));
        let present: Vec<bool> = self.schema.fields().iter().map(is_there).collect();
        let missing = self.schema.fields().iter().zip(&present);
        if let Some((field, _)) = missing
            .into_iter()
            .find(|(field, there)| !**there && !field.is_nullable())
        {
            let what = format!(
                "table `{}` has no column `{}`; it has: {}",
                self.table,
                field.name(),
                names.join(", ")
            );
            return Err(misfit(&self.path, &what));
        }
        Ok(present)
    }

    /// The declared columns in a statement.
    pub(super) fn columns(&self, present: &[bool]) -> String {
        let name = |(field, there): (&FieldRef, &bool)| match there {
            true => quoted(field.name()),
            false => "NULL".to_owned(),
        };
        let names = self.schema.fields().iter().zip(present).map(name);
        names.collect::<Vec<_>>().join(", ")
    }

    /// The statement that reads rows behind `?1`, up to `?2`, at most `?3`.
    fn select(&self, present: &[bool]) -> String {
        let mut statement = format!("SELECT rowid, {}", self.columns(present));
        let filter = self.filter.as_deref().unwrap_or("TRUE");
        write!(
            statement,
            " FROM {} WHERE rowid > ?1 AND rowid <= ?2 AND ({filter}) ORDER BY rowid LIMIT ?3",
            quoted(&self.table)
        )
        .expect("a text takes everything");
        statement
    }
}

impl Source for SqliteSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<Split>> {
        let settings = &self.0;
        let connection = settings.open()?;
        let present = settings.present(&connection)?;
        let prepared = connection.prepare(&settings.select(&present));
        prepared.map_err(|error| {
            let what = format!(
                "table `{}` cannot be read by rowid with option `where`, if there is one: {error}",
                settings.table
            );
            misfit(&settings.path, &what)
        })?;
        let ends = format!("SELECT min(rowid), max(rowid) FROM {}", quoted(&settings.table));
        let ends = connection.query_row(&ends, [], |row| Ok((row.get(0)?, row.get(1)?)));
        let (Some(first), Some(last)): (Option<i64>, Option<i64>) = ends.map_err(|error| settings.failed(&error))?
        else {
            return Ok(Vec::new());
        };
        let (first, last) = (i128::from(first), i128::from(last));
        let count = i128::from(parallelism).min(last - first + 1);
        // Each begins behind the last rowid of the one before it.
        let at = |index: i128| first - 1 + (last - first + 1) * index / count;
        let split = |index| Split {
            id: format!("{}..{}", at(index), at(index + 1)),
            position: Position::START,
        };
        Ok((0..count).map(split).collect())
    }

    fn open(&self, split: &Split, _context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        let settings = self.0.clone();
        let numbers = split.id.split_once("..");
        let numbers = numbers.and_then(|(after, last)| Some((after.parse::<i128>().ok()?, last.parse::<i64>().ok()?)));
        let Some((after, last)) = numbers else {
            return Err(Error::internal(format!("`{}` is not a split of a table", split.id)));
        };
        let resumed = position::decode::<1>(&split.position)?;
        // The least rowid has none before it; nobody has a table that begins there.
        let after = i64::try_from(after).unwrap_or(i64::MIN);
        let connection = settings.open()?;
        let select = settings.select(&settings.present(&connection)?);
        Ok(Box::new(Reader {
            after: resumed.map_or(after, |[rowid]| rowid as i64),
            last,
            connection,
            select,
            settings,
        }))
    }
}

struct Reader {
    settings: Arc<Settings>,
    connection: Connection,
    select: String,
    /// The last rowid given.
    after: i64,
    last: i64,
}

impl Reader {
    /// A block of rows as JSON lines, and their rowids.
    fn read(&self, rows_max: usize) -> rusqlite::Result<(Vec<u8>, Vec<i64>)> {
        let (mut lines, mut rowids) = (Vec::new(), Vec::new());
        let mut statement = self.connection.prepare(&self.select)?;
        let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let mut rows = statement.query([self.after, self.last, limit])?;
        while let Some(row) = rows.next()? {
            rowids.push(row.get(0)?);
            append_line(&self.settings.schema, row, 1, &mut lines)?;
        }
        Ok((lines, rowids))
    }
}

/// A row as a line of JSON; its columns begin with this one of the statement's.
pub(super) fn append_line(
    schema: &SchemaRef,
    row: &Row<'_>,
    first: usize,
    lines: &mut Vec<u8>,
) -> rusqlite::Result<()> {
    lines.push(b'{');
    for (index, field) in schema.fields().iter().enumerate() {
        let value = row.get_ref(first + index)?;
        if value == ValueRef::Null {
            continue;
        }
        if lines.last() != Some(&b'{') {
            lines.push(b',');
        }
        append_text(field.name(), lines);
        lines.push(b':');
        append_value(value, field.data_type(), lines);
    }
    lines.extend_from_slice(b"}\n");
    Ok(())
}

fn append_text(text: &str, lines: &mut Vec<u8>) {
    lines.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

fn append_value(value: ValueRef<'_>, to: &DataType, lines: &mut Vec<u8>) {
    match (value, to) {
        (ValueRef::Null, _) => lines.extend_from_slice(b"null"),
        (ValueRef::Integer(0), DataType::Boolean) => lines.extend_from_slice(b"false"),
        (ValueRef::Integer(1), DataType::Boolean) => lines.extend_from_slice(b"true"),
        (ValueRef::Integer(number), _) => lines.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        (ValueRef::Real(number), _) if number.is_finite() => lines.extend_from_slice(format!("{number:?}").as_bytes()),
        (ValueRef::Real(number), _) => append_text(if number > 0.0 { "Infinity" } else { "-Infinity" }, lines),
        (ValueRef::Blob(bytes), DataType::Binary | DataType::FixedSizeBinary(_)) => {
            let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            lines.push(b'"');
            lines.extend(digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]));
            lines.push(b'"');
        }
        (ValueRef::Text(text), DataType::List(_) | DataType::Struct(_) | DataType::Map(_, _)) => {
            // Only on one line can it be a value.
            match serde_json::from_slice::<serde_json::Value>(text) {
                Ok(value) => lines.extend_from_slice(value.to_string().as_bytes()),
                Err(_) => append_text(&String::from_utf8_lossy(text), lines),
            }
        }
        (ValueRef::Text(bytes) | ValueRef::Blob(bytes), _) => append_text(&String::from_utf8_lossy(bytes), lines),
    }
}

impl SplitReader for Reader {
    fn poll(&mut self, rows_max: usize, _now: Elapsed) -> Result<Poll> {
        let read = self.read(rows_max).map_err(|error| self.settings.failed(&error))?;
        let (lines, rowids) = read;
        let Some(last) = rowids.last().copied() else {
            return Ok(Poll::End);
        };
        let bytes = lines.len() as u64;
        let (rows, mut rejected) = ndjson_rows(lines, rowids.len(), &self.settings.schema)?;
        for row in &mut rejected {
            self.name(row, &rowids);
        }
        self.after = last;
        Ok(Poll::Rows(Rows { rows, rejected, bytes }))
    }

    fn position(&self) -> Position {
        position::encode([self.after as u64])
    }
}

impl Reader {
    /// Says which row of the table was rejected: the parser counts lines.
    fn name(&self, rejected: &mut Rejected, rowids: &[i64]) {
        let line = rejected
            .place
            .rsplit(':')
            .next()
            .and_then(|line| line.parse::<usize>().ok());
        let rowid = line.and_then(|line| rowids.get(line.checked_sub(1)?));
        let Settings { path, table, .. } = self.settings.as_ref();
        rejected.place = match rowid {
            Some(rowid) => format!("{path} table {table} rowid {rowid}"),
            None => format!("{path} table {table}"),
        };
    }
}
