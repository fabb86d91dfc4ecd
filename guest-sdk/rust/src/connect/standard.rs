//! Standard input and output of the process that runs the job.

use std::marker::PhantomData;

use super::options::{Options, any_option, csv_options, reject_option};
use super::{Description, Reject, Sink, Source};
use crate::bindings::dataflow as wit;
use crate::value::Record;

/// Reads standard input.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Line { text: String }
///
/// fn echo(flow: &Flow) {
///     flow.source("in", Stdin::text::<Line>()).sink("out", Stdout::text());
/// }
/// ```
#[derive(Debug)]
pub struct Stdin;

impl Stdin {
    /// Reads lines. The record has one field, of text.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let lines = Stdin::text::<Row>();
    /// ```
    pub fn text<T: Record>() -> StdinSource<T> {
        StdinSource::new("text")
    }

    /// Reads CSV.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Stdin::csv::<Row>();
    /// ```
    pub fn csv<T: Record>() -> StdinSource<T> {
        StdinSource::new("csv")
    }

    /// Reads lines of JSON.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Stdin::ndjson::<Row>();
    /// ```
    pub fn ndjson<T: Record>() -> StdinSource<T> {
        StdinSource::new("ndjson")
    }
}

/// Reads standard input: made by [`Stdin`].
#[derive(Debug)]
pub struct StdinSource<T> {
    options: Options,
    on_reject: Reject,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> StdinSource<T> {
    fn new(format: &str) -> Self {
        let mut options = Options::default();
        options.set("format", format);
        StdinSource {
            options,
            on_reject: Reject::Fail,
            record: PhantomData,
        }
    }

    csv_options!("Stdin::csv::<Row>()");
    reject_option!("Stdin::csv::<Row>()");
    any_option!("let rows = Stdin::csv::<Row>().option(\"csv.header\", false);");
}

impl<T: Record> Source for StdinSource<T> {
    type Record = T;

    fn into_description(self) -> Description {
        Description {
            kind: "stdin".to_owned(),
            options: self.options.into_list(),
            on_reject: self.on_reject,
        }
    }
}

/// Writes to standard output. [`Stdin`] has an example.
#[derive(Debug)]
pub struct Stdout;

impl Stdout {
    /// Writes lines. The record has one field, of text.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let lines = Stdout::text();
    /// ```
    pub fn text() -> StdoutSink {
        StdoutSink::new("text")
    }

    /// Writes CSV.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Stdout::csv();
    /// ```
    pub fn csv() -> StdoutSink {
        StdoutSink::new("csv")
    }

    /// Writes lines of JSON.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Stdout::ndjson();
    /// ```
    pub fn ndjson() -> StdoutSink {
        StdoutSink::new("ndjson")
    }
}

/// Writes to standard output: made by [`Stdout`].
#[derive(Debug)]
pub struct StdoutSink {
    options: Options,
}

impl StdoutSink {
    fn new(format: &str) -> Self {
        let mut options = Options::default();
        options.set("format", format);
        StdoutSink { options }
    }

    csv_options!("Stdout::csv()");
    any_option!("let rows = Stdout::csv().option(\"csv.header\", false);");
}

impl Sink for StdoutSink {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: "stdout".to_owned(),
            options: self.options.into_list(),
        }
    }
}
