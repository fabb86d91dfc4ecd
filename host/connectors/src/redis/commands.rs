//! Rows as commands.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_cast::cast;
use arrow_schema::DataType;
use millrace_core::{Error, Result};
use redis::Pipeline;

use super::settings::{Settings, Structure};
use super::texts::{Column, Filled, index_of};

/// The commands that write a block of rows, in order. Their answers are ignored, but for errors.
pub(super) struct Commands {
    pub(super) pipeline: Pipeline,
    /// Keys whose type must fit.
    pub(super) keys: BTreeSet<Vec<u8>>,
    /// Of keys and values.
    pub(super) bytes: u64,
}

impl Commands {
    pub(super) fn new(settings: &Settings, rows: &RecordBatch) -> Result<Self> {
        let key = Filled::new(&settings.key, rows)?;
        let mut commands = Commands {
            pipeline: Pipeline::with_capacity(rows.num_rows() + 1),
            keys: BTreeSet::new(),
            bytes: 0,
        };
        let body = Body::new(settings, rows)?;
        for row in 0..rows.num_rows() {
            let key = key.value(row)?;
            commands.add(settings, &body, &key, row)?;
            commands.bytes += key.len() as u64;
            if settings.structure.redis_type().is_some() {
                commands.keys.insert(key);
            }
        }
        Ok(commands)
    }

    fn add(&mut self, settings: &Settings, body: &Body<'_>, key: &[u8], row: usize) -> Result<()> {
        let name = match settings.structure {
            Structure::String => "SET",
            Structure::Hash => return self.add_hash(settings, body, key, row),
            Structure::Stream => return self.add_entry(settings, body, key, row),
            Structure::List => "RPUSH",
            Structure::SortedSet => "ZADD",
            Structure::Channel => "PUBLISH",
        };
        self.pipeline.cmd(name).arg(key);
        if let Some(scores) = &body.scores {
            let score = scores[row];
            if score.is_nan() {
                return Err(Error::pipeline("RW0102", "a row has no number as its score (NaN)"));
            }
            self.pipeline.arg(score);
        }
        if let Some(value) = &body.value {
            let value = value.value(row)?;
            self.bytes += value.len() as u64;
            self.pipeline.arg(value);
        }
        if let Some(seconds) = settings.expire_seconds {
            self.pipeline.arg("EX").arg(seconds);
        }
        self.pipeline.ignore();
        Ok(())
    }

    fn add_hash(&mut self, settings: &Settings, body: &Body<'_>, key: &[u8], row: usize) -> Result<()> {
        let (there, missing): (Vec<_>, Vec<_>) = body.columns.iter().partition(|(_, column)| !column.is_null(row));
        if !there.is_empty() {
            self.pipeline.cmd("HSET").arg(key);
            self.add_fields(&there, row)?;
            self.pipeline.ignore();
        }
        if !missing.is_empty() {
            self.pipeline.cmd("HDEL").arg(key);
            for (name, _) in missing {
                self.pipeline.arg(name);
            }
            self.pipeline.ignore();
        }
        if let Some(seconds) = settings.expire_seconds {
            self.pipeline.cmd("EXPIRE").arg(key).arg(seconds).ignore();
        }
        Ok(())
    }

    fn add_entry(&mut self, settings: &Settings, body: &Body<'_>, key: &[u8], row: usize) -> Result<()> {
        let there = body.columns.iter().filter(|(_, column)| !column.is_null(row));
        let there = there.collect::<Vec<_>>();
        if there.is_empty() {
            let message = "a row of nothing but nulls cannot be an entry of a stream";
            return Err(Error::pipeline("RW0102", message));
        }
        self.pipeline.cmd("XADD").arg(key);
        if let Some(length) = settings.length_max {
            self.pipeline.arg("MAXLEN").arg("~").arg(length);
        }
        self.pipeline.arg("*");
        self.add_fields(&there, row)?;
        self.pipeline.ignore();
        Ok(())
    }

    fn add_fields(&mut self, fields: &[&(String, Column)], row: usize) -> Result<()> {
        for (name, column) in fields {
            let mut value = Vec::new();
            column.put(row, &mut value)?;
            self.bytes += (name.len() + value.len()) as u64;
            self.pipeline.arg(name).arg(value);
        }
        Ok(())
    }
}

/// What comes behind the key.
struct Body<'t> {
    value: Option<Filled<'t>>,
    scores: Option<Vec<f64>>,
    /// All columns by name, where each is a field.
    columns: Vec<(String, Column)>,
}

impl<'t> Body<'t> {
    fn new(settings: &'t Settings, rows: &RecordBatch) -> Result<Self> {
        let is_value = match settings.structure {
            Structure::Hash | Structure::Stream => false,
            Structure::String | Structure::List | Structure::SortedSet | Structure::Channel => true,
        };
        let value = match &settings.value {
            Some(template) => Some(Filled::new(template, rows)?),
            None if is_value => Some(Filled::json(rows)?),
            None => None,
        };
        let schema = rows.schema();
        let named = |index: usize| Ok((schema.field(index).name().clone(), Column::new(rows, index)?));
        let columns = match is_value {
            true => Vec::new(),
            false => (0..rows.num_columns()).map(named).collect::<Result<_>>()?,
        };
        let scores = settings.score.as_ref().map(|score| scores(rows, score)).transpose()?;
        Ok(Body { value, scores, columns })
    }
}

fn scores(rows: &RecordBatch, name: &str) -> Result<Vec<f64>> {
    let column = rows.column(index_of(rows, name)?);
    let scores = cast(column, &DataType::Float64);
    let scores = scores.map_err(|error| Error::pipeline("RW0102", format!("column `{name}`: {error}")))?;
    Ok(scores.as_primitive::<Float64Type>().values().to_vec())
}
