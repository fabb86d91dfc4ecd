//! A sink that counts.

use super::Sink;
use crate::bindings::dataflow as wit;

/// Drops the rows and reports how many there were.
#[derive(Debug, Default)]
pub struct Discard {
    options: Vec<(String, String)>,
}

impl Discard {
    /// Counts rows.
    pub fn new() -> Self {
        Discard::default()
    }

    /// Sums up a numeric column as well.
    pub fn sum(self, column: &str) -> Self {
        self.option("sum", column)
    }

    /// Any option of the connector.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.options.push((name.to_owned(), value.to_string()));
        self
    }
}

impl Sink for Discard {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: "discard".to_owned(),
            options: self.options,
        }
    }
}
