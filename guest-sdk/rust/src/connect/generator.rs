//! Rows made up by formula.

use std::marker::PhantomData;

use super::Source;
use crate::bindings::dataflow as wit;
use crate::value::Record;

/// Makes rows up: each column is an expression of the row's index.
#[derive(Debug)]
pub struct Generator<T> {
    options: Vec<(String, String)>,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Default for Generator<T> {
    fn default() -> Self {
        Generator::new()
    }
}

impl<T: Record> Generator<T> {
    /// Rows without end, as fast as possible.
    pub fn new() -> Self {
        Generator {
            options: Vec::new(),
            record: PhantomData,
        }
    }

    /// Ends after that many rows.
    pub fn rows(self, rows: u64) -> Self {
        self.option("rows", rows)
    }

    /// That many rows per second, over all subtasks.
    pub fn rate(self, rows_per_second: u64) -> Self {
        self.option("rate", rows_per_second)
    }

    /// Other random numbers.
    pub fn seed(self, seed: u64) -> Self {
        self.option("seed", seed)
    }

    /// The expression of a column, which every column needs.
    pub fn column(self, name: &str, expression: &str) -> Self {
        self.option(&format!("column.{name}"), expression)
    }

    /// Any option of the connector.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.options.push((name.to_owned(), value.to_string()));
        self
    }
}

impl<T: Record> Source for Generator<T> {
    type Record = T;

    fn connector(&self) -> wit::Connector {
        wit::Connector {
            kind: "generator".to_owned(),
            options: self.options.clone(),
        }
    }
}
