//! A sink that counts.

use super::Sink;
use super::options::{Options, any_option};
use crate::bindings::dataflow as wit;

/// Drops the rows, and reports at the end how many there were.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Click { user: i64, page: i64 }
///
/// fn count(clicks: Stream<Rows<Click>>) {
///     clicks.sink("count", Discard::new().sum("page").checksum());
/// }
/// ```
#[derive(Debug, Default)]
pub struct Discard {
    options: Options,
}

impl Discard {
    /// Counts rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let sink = Discard::new();
    /// ```
    pub fn new() -> Self {
        Discard::default()
    }

    /// Sums up a numeric column as well. Several are summed one by one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let sink = Discard::new().sum("cents");
    /// ```
    pub fn sum(mut self, column: &str) -> Self {
        self.options.append("sum", column);
        self
    }

    /// Computes a checksum over all rows and columns as well, whatever their order.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let sink = Discard::new().checksum();
    /// ```
    pub fn checksum(self) -> Self {
        self.option("checksum", true)
    }

    /// Measures how long rows were under way as well: an `i64` column that a [`Generator`](super::Generator)
    /// filled with `now`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let sink = Discard::new().latency("made");
    /// ```
    pub fn latency(self, column: &str) -> Self {
        self.option("latency", column)
    }

    /// Measures the longest time between two blocks as well, in each subtask.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let sink = Discard::new().gaps();
    /// ```
    pub fn gaps(self) -> Self {
        self.option("gaps", true)
    }

    any_option!("let sink = Discard::new().option(\"sum\", \"cents\");");
}

impl Sink for Discard {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: "discard".to_owned(),
            options: self.options.into_list(),
        }
    }
}
