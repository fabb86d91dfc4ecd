//! The `tcp` connector: rows of text through sockets, to and from whoever speaks lines.
//!
//! Both sides connect to an address or listen at one. A socket gives nothing a second time and does not say what
//! arrived: the [`source`] loses what it has read since the last checkpoint when a job goes on from that, and the
//! [`sink`] repeats rows then, and may lose some with a connection.

mod sink;
mod source;

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use millrace_core::connector::{Connector, Options, Sink, SinkContext, Source};
use millrace_core::{Error, Result};

use crate::format::Format;

/// Connector kind `tcp`.
pub(crate) struct TcpConnector;

impl Connector for TcpConnector {
    fn kind(&self) -> &'static str {
        "tcp"
    }

    fn source(&self, mut options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        let settings = Settings::take(&mut options, &schema, None)?;
        let connections_max = options
            .parsed("connections.max", "a number of connections")?
            .unwrap_or(100);
        options.finish()?;
        Ok(Some(Arc::new(source::TcpSource::new(
            settings,
            connections_max,
            schema,
        ))))
    }

    fn sink(&self, mut options: Options, schema: SchemaRef, _: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        let settings = Settings::take(&mut options, &schema, Some(10))?;
        options.finish()?;
        Ok(Some(Arc::new(sink::TcpSink::new(settings, schema))))
    }
}

/// Who begins a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Connect,
    Listen,
}

/// What both sides have in common.
#[derive(Debug, Clone)]
struct Settings {
    address: String,
    mode: Mode,
    format: Format,
    /// How often a connection is tried again before that is given up; `None`: for ever.
    attempts: Option<u32>,
}

impl Settings {
    fn take(options: &mut Options, schema: &SchemaRef, attempts: Option<u32>) -> Result<Self> {
        let address = options.required("address")?;
        let mode = match options.text("mode").as_deref() {
            None | Some("connect") => Mode::Connect,
            Some("listen") => Mode::Listen,
            Some(mode) => {
                let message = format!("option `mode` is `{mode}`, not one of connect, listen");
                return Err(Error::user("CN0108", message));
            }
        };
        let given = options.parsed("reconnect.attempts", "a number of attempts")?;
        if given.is_some() && mode == Mode::Listen {
            let message = "option `reconnect.attempts` does not go with `mode` = `listen`: the others connect";
            return Err(Error::user("CN0110", message));
        }
        let format = Format::take(options, Some("text"), false)?;
        format.check_schema(schema)?;
        let is_address = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_address {
            let message = format!("option `address` is `{address}`, not a host and a port such as `localhost:9999`");
            return Err(Error::user("CN0003", message));
        }
        Ok(Settings {
            address,
            mode,
            format,
            attempts: given.or(attempts),
        })
    }

    fn listen(&self) -> Result<TcpListener> {
        TcpListener::bind(&self.address).map_err(|error| {
            let message = format!("cannot listen at `{}` (option `address`): {error}", self.address);
            Error::external("IO0150", message)
        })
    }

    /// Tries once.
    fn connect(&self) -> std::io::Result<TcpStream> {
        const TIMEOUT: Duration = Duration::from_secs(10);
        let mut last = std::io::Error::other("the name has no address");
        let addresses: Vec<SocketAddr> = self.address.to_socket_addrs()?.collect();
        for address in addresses {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn unreachable(&self, attempts: u32, error: &std::io::Error) -> Error {
        let message = format!(
            "`{}` (option `address`) cannot be reached, tried {attempts} times: {error}",
            self.address
        );
        Error::external("IO0151", message)
    }
}

/// How long to wait before the next try, by the number of those that failed in a row.
fn backoff(failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);
    FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(LONGEST)
}

#[cfg(test)]
mod tests;
