//! Connectors that this crate has no words for.

use std::marker::PhantomData;

use super::options::{Options, any_option, reject_option};
use super::{Description, KeyedTable, Reject, Sink, Source};
use crate::bindings::dataflow as wit;
use crate::value::Record;

/// Any connector of the host, by the name of its kind.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Message { text: String }
///
/// fn copy(flow: &Flow) {
///     flow.source("in", Connector::source::<Message>("queue").option("topic", "messages"))
///         .sink("out", Connector::sink("table").option("name", "messages"));
/// }
/// ```
#[derive(Debug)]
pub struct Connector;

impl Connector {
    /// A source.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let source = Connector::source::<Row>("queue").option("topic", "rows");
    /// ```
    pub fn source<T: Record>(kind: &str) -> CustomSource<T> {
        CustomSource {
            kind: kind.to_owned(),
            options: Options::default(),
            on_reject: Reject::Fail,
            record: PhantomData,
        }
    }

    /// A sink.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let sink = Connector::sink("table").option("name", "rows");
    /// ```
    pub fn sink(kind: &str) -> CustomSink {
        CustomSink {
            kind: kind.to_owned(),
            options: Options::default(),
        }
    }
}

/// A source by name: made by [`Connector::source`].
#[derive(Debug)]
pub struct CustomSource<T> {
    kind: String,
    options: Options,
    on_reject: Reject,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> CustomSource<T> {
    reject_option!("Connector::source::<Row>(\"queue\")");
    any_option!("let source = Connector::source::<Row>(\"queue\").option(\"topic\", \"rows\");");
}

impl<T: Record> KeyedTable for CustomSource<T> {
    type Record = T;

    fn into_table(self) -> Description {
        self.into_description()
    }
}

impl<T: Record> Source for CustomSource<T> {
    type Record = T;

    fn into_description(self) -> Description {
        Description {
            kind: self.kind,
            options: self.options.into_list(),
            on_reject: self.on_reject,
        }
    }
}

/// A sink by name: made by [`Connector::sink`].
#[derive(Debug)]
pub struct CustomSink {
    kind: String,
    options: Options,
}

impl CustomSink {
    any_option!("let sink = Connector::sink(\"table\").option(\"name\", \"rows\");");
}

impl Sink for CustomSink {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: self.kind,
            options: self.options.into_list(),
        }
    }
}
