//! Sockets: rows of text to and from whoever speaks lines.

use std::marker::PhantomData;

use super::options::{Options, any_option, csv_options, reject_option};
use super::{Description, Reject, Sink, Source};
use crate::bindings::dataflow as wit;
use crate::value::Record;

/// Reads and writes text, CSV and JSON lines through sockets of TCP, by connecting to an address or by
/// [listening](TcpSource::listen) at one.
///
/// A socket gives nothing a second time: when a job goes on from a checkpoint, what the source had read since then is
/// lost (at most once). The sink writes such rows again, and may lose some with a connection that breaks. Both are for
/// trying things out, and for feeds that nobody misses a row of; what must not be lost goes through files or a queue.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Line<'a> { text: &'a str }
///
/// fn shout(flow: &Flow) {
///     // `nc -lk 9999` gives lines, and `nc -lk 9998` shows them.
///     let lines: Stream<Rows<Line>> = flow.source("lines", Tcp::text("localhost:9999"));
///     lines.filter(|line| line.text.ends_with('!')).sink("out", Tcp::to_text("localhost:9998"));
/// }
/// ```
#[derive(Debug)]
pub struct Tcp;

impl Tcp {
    /// Reads lines. The record has one field, of text.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Tcp::text::<Row>("localhost:9999");
    /// ```
    pub fn text<T: Record>(address: impl Into<String>) -> TcpSource<T> {
        TcpSource::new(address, "text")
    }

    /// Reads CSV, with a header in each connection.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Tcp::csv::<Row>("localhost:9999").header(false);
    /// ```
    pub fn csv<T: Record>(address: impl Into<String>) -> TcpSource<T> {
        TcpSource::new(address, "csv")
    }

    /// Reads lines of JSON.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Tcp::ndjson::<Row>("0.0.0.0:9999").listen();
    /// ```
    pub fn ndjson<T: Record>(address: impl Into<String>) -> TcpSource<T> {
        TcpSource::new(address, "ndjson")
    }

    /// Writes lines. The record has one field, of text.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let lines = Tcp::to_text("localhost:9998");
    /// ```
    pub fn to_text(address: impl Into<String>) -> TcpSink {
        TcpSink::new(address, "text")
    }

    /// Writes CSV, with a header in each connection.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Tcp::to_csv("localhost:9998").delimiter(';');
    /// ```
    pub fn to_csv(address: impl Into<String>) -> TcpSink {
        TcpSink::new(address, "csv")
    }

    /// Writes lines of JSON.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Tcp::to_ndjson("127.0.0.1:9998").listen();
    /// ```
    pub fn to_ndjson(address: impl Into<String>) -> TcpSink {
        TcpSink::new(address, "ndjson")
    }
}

/// Reads sockets: made by [`Tcp`].
#[derive(Debug)]
pub struct TcpSource<T> {
    options: Options,
    on_reject: Reject,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> TcpSource<T> {
    fn new(address: impl Into<String>, format: &str) -> Self {
        let mut options = Options::default();
        options.set("address", address.into());
        options.set("format", format);
        TcpSource {
            options,
            on_reject: Reject::Fail,
            record: PhantomData,
        }
    }

    /// Waits for others to connect, any number of them, instead of connecting.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Tcp::ndjson::<Row>("127.0.0.1:9999").listen();
    /// ```
    pub fn listen(self) -> Self {
        self.option("mode", "listen")
    }

    /// How often in a row it tries to connect again before the job fails. 0: the source ends when the peer closes the
    /// connection. Without this it tries for ever, at growing distances of up to ten seconds.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Tcp::text::<Row>("localhost:9999").reconnect_attempts(0);
    /// ```
    pub fn reconnect_attempts(self, attempts: u32) -> Self {
        self.option("reconnect.attempts", attempts)
    }

    csv_options!("Tcp::csv::<Row>(\"localhost:9999\")");
    reject_option!("Tcp::csv::<Row>(\"localhost:9999\")");
    any_option!("let rows = Tcp::csv::<Row>(\"localhost:9999\").option(\"csv.header\", false);");
}

impl<T: Record> Source for TcpSource<T> {
    type Record = T;

    fn into_description(self) -> Description {
        Description {
            kind: "tcp".to_owned(),
            options: self.options.into_list(),
            on_reject: self.on_reject,
        }
    }
}

/// Writes to sockets: made by [`Tcp`].
#[derive(Debug)]
pub struct TcpSink {
    options: Options,
}

impl TcpSink {
    fn new(address: impl Into<String>, format: &str) -> Self {
        let mut options = Options::default();
        options.set("address", address.into());
        options.set("format", format);
        TcpSink { options }
    }

    /// Waits for others to connect and writes to all that are there; rows that nobody hears are gone.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Tcp::to_csv("127.0.0.1:9998").listen();
    /// ```
    pub fn listen(self) -> Self {
        self.option("mode", "listen")
    }

    /// How often in a row it tries to connect before the job fails. Without this, ten times, which takes less than a minute.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let rows = Tcp::to_csv("localhost:9998").reconnect_attempts(100);
    /// ```
    pub fn reconnect_attempts(self, attempts: u32) -> Self {
        self.option("reconnect.attempts", attempts)
    }

    csv_options!("Tcp::to_csv(\"localhost:9998\")");
    any_option!("let rows = Tcp::to_csv(\"localhost:9998\").option(\"csv.header\", false);");
}

impl Sink for TcpSink {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: "tcp".to_owned(),
            options: self.options.into_list(),
        }
    }
}
