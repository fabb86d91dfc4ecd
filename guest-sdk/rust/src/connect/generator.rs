//! Rows made up by formula.

use std::marker::PhantomData;

use super::options::{Options, any_option};
use super::{Description, Reject, Source};
use crate::value::Record;

/// Makes rows up: each column is an expression of the row's index.
///
/// An expression begins with `index`, `mix` (a number that looks random) or an integer, and goes on with any
/// number of `+ - * / %` and an integer, from left to right. Text has expressions in braces. A column of
/// `i64` may be `now`, the time of the row in ns since the job began.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Click { user: String, page: i64, at: Timestamp }
///
/// fn clicks(flow: &Flow) -> Stream<Rows<Click>> {
///     let clicks = Generator::<Click>::new()
///         .rows(1_000_000)
///         .column("user", "user-{mix % 1000}")
///         .column("page", "mix / 1000 % 50")
///         .column("at", "index * 10");
///     flow.source("clicks", clicks)
/// }
/// ```
#[derive(Debug)]
pub struct Generator<T> {
    options: Options,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Default for Generator<T> {
    fn default() -> Self {
        Generator::new()
    }
}

impl<T: Record> Generator<T> {
    /// Rows without end, as fast as possible.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Generator::<(i64,)>::new().column("0", "index");
    /// ```
    pub fn new() -> Self {
        Generator {
            options: Options::default(),
            record: PhantomData,
        }
    }

    /// Ends after that many rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Generator::<(i64,)>::new().rows(10).column("0", "index");
    /// ```
    pub fn rows(self, rows: u64) -> Self {
        self.option("rows", rows)
    }

    /// That many rows per second, over all subtasks.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Generator::<(i64,)>::new().rate(1000).column("0", "now");
    /// ```
    pub fn rate(self, rows_per_second: u64) -> Self {
        self.option("rate", rows_per_second)
    }

    /// Gives other values of `mix`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Generator::<(i64,)>::new().seed(7).column("0", "mix");
    /// ```
    pub fn seed(self, seed: u64) -> Self {
        self.option("seed", seed)
    }

    /// The expression of a column. Every column needs one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Generator::<(i64, String)>::new().column("0", "index % 5").column("1", "row {index}");
    /// ```
    pub fn column(self, name: &str, expression: &str) -> Self {
        self.option(&format!("column.{name}"), expression)
    }

    any_option!("let rows = Generator::<Row>::new().option(\"column.text\", \"row {index}\");");
}

impl<T: Record> Source for Generator<T> {
    type Record = T;

    fn into_description(self) -> Description {
        Description {
            kind: "generator".to_owned(),
            options: self.options.into_list(),
            on_reject: Reject::Fail,
        }
    }
}
