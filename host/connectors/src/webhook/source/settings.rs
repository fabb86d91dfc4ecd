//! Options of the `webhook` source. Nothing listens here.

use std::time::Duration;

use millrace_core::connector::Options;
use millrace_core::{Error, Result};

use super::tls::Tls;
use crate::format::RECORD_BYTES_MAX;
use crate::password::Password;

const PATH_DEFAULT: &str = "/";
const TIMEOUT_MS_DEFAULT: u64 = 25_000;
const REQUESTS_MAX_DEFAULT: u64 = 1_000;
const BODY_BYTES_MAX_DEFAULT: u64 = 4 << 20;
const BYTES_MAX_DEFAULT: u64 = 64 << 20;
const KEYS_MAX_DEFAULT: u64 = 100_000;

/// Bounds of what can be asked for: permits of requests and bytes are counted in 32 bits.
const REQUESTS_MAX: u64 = 1 << 20;
const BYTES_MAX: u64 = 1 << 31;
const KEYS_MAX: u64 = 10_000_000;

/// When a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledge {
    /// When its rows are in a complete checkpoint.
    Checkpoint,
    /// When its rows are on their way.
    Receipt,
}

/// What the pipeline asks for.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Host and port.
    pub(super) address: String,
    pub(super) path: String,
    /// `None`: requests come as they are.
    pub(super) tls: Option<Tls>,
    pub(super) acknowledge: Acknowledge,
    /// What senders have in `Authorization: Bearer`.
    pub(super) token: Password,
    /// How long a request waits for its answer, and how long its body may take.
    pub(super) timeout: Duration,
    /// Requests that are not answered.
    pub(super) requests_max: usize,
    pub(super) body_bytes_max: usize,
    /// Bytes of the bodies of requests that were not read.
    pub(super) bytes_max: usize,
    /// Keys that are remembered.
    pub(super) keys_max: usize,
}

pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::user("CN0171", message)
}

impl Settings {
    pub(super) fn take(mut options: Options) -> Result<Self> {
        let address = options.required("address")?;
        let is_address = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_address {
            let message = format!("option `address` is `{address}`, not a host and a port such as `0.0.0.0:8080`");
            return Err(refused(message));
        }
        let path = options.text("path").unwrap_or_else(|| PATH_DEFAULT.to_owned());
        if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
            return Err(refused(format!(
                "option `path` is `{path}`, not a path such as `/orders`"
            )));
        }
        let acknowledge = match options.text("acknowledge").as_deref() {
            None | Some("checkpoint") => Acknowledge::Checkpoint,
            Some("receipt") => Acknowledge::Receipt,
            Some(other) => {
                let message = format!("option `acknowledge` is `{other}`: checkpoint or receipt");
                return Err(refused(message));
            }
        };
        let mut number = |name, default, max| {
            let number = options.parsed(name, "a number")?.unwrap_or(default);
            if !(1..=max).contains(&number) {
                return Err(refused(format!("option `{name}` is {number}, not between 1 and {max}")));
            }
            Ok(number)
        };
        let timeout_ms = number("timeout.ms", TIMEOUT_MS_DEFAULT, u64::MAX)?;
        let requests_max = number("requests.max", REQUESTS_MAX_DEFAULT, REQUESTS_MAX)? as usize;
        let body_bytes_max = number("body.bytes.max", BODY_BYTES_MAX_DEFAULT, RECORD_BYTES_MAX as u64)? as usize;
        let bytes_max = number("bytes.max", BYTES_MAX_DEFAULT, BYTES_MAX)? as usize;
        let keys_max = number("keys.max", KEYS_MAX_DEFAULT, KEYS_MAX)? as usize;
        if bytes_max < body_bytes_max {
            return Err(refused("option `bytes.max` is less than `body.bytes.max`"));
        }
        if keys_max < requests_max {
            // A request that still waits could be read a second time.
            return Err(refused("option `keys.max` is less than `requests.max`"));
        }
        let settings = Settings {
            address,
            path,
            tls: Tls::take(&mut options)?,
            acknowledge,
            token: Password::take(&mut options)?,
            timeout: Duration::from_millis(timeout_ms),
            requests_max,
            body_bytes_max,
            bytes_max,
            keys_max,
        };
        options.finish()?;
        Ok(settings)
    }
}
