//! Options of the `webhook` sink. Nothing is asked of the server here.

use arrow_schema::Schema;
use millrace_core::connector::Options;
use millrace_core::graph::{Origin, RequestOrder, RequestsDecl, Retry};
use millrace_core::{Error, Result};
use reqwest::Url;

use crate::password::Password;
use crate::write_ahead::Limits;

const BATCH_ROWS_DEFAULT: usize = 500;

/// Bytes of rows of one subtask that may wait for checkpoints.
const LOG_BYTES_DEFAULT: usize = 64 << 20;

/// Bound of the requests of a subtask at a time, whose rows are all in memory.
const REQUESTS_MAX: usize = 1_000;

const TIMEOUT_MS_DEFAULT: u64 = 30_000;
const ATTEMPTS_DEFAULT: u32 = 5;
const RETRY_DELAY_MS_DEFAULT: u64 = 200;

/// What a server says that is not there, busy or out of order.
const RETRY_STATUSES: [u16; 7] = [408, 425, 429, 500, 502, 503, 504];

/// Of an answer nothing is read but the beginning, for messages.
const RESPONSE_BYTES_MAX: u64 = 1 << 20;

/// When rows are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// When their checkpoint is complete.
    Checkpointed,
    /// As they come.
    Immediate,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// A JSON object on each line.
    Lines,
    /// A JSON array of objects.
    Array,
}

/// What the pipeline asks for.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) url: Url,
    pub(super) mode: Mode,
    pub(super) body: Body,
    /// Names and values.
    pub(super) headers: Vec<(String, String)>,
    /// What is sent as `Authorization: Bearer`.
    pub(super) token: Password,
    pub(super) limits: Limits,
    /// Requests of a subtask that are under way at a time.
    pub(super) requests_max: usize,
    /// How requests are made.
    pub(super) requests: RequestsDecl,
    /// Tells jobs of the same name apart.
    pub(super) id: String,
}

fn refused(message: impl Into<String>) -> Error {
    Error::user("CN0170", message)
}

impl Settings {
    pub(super) fn take(mut options: Options) -> Result<Self> {
        let text = options.required("url")?;
        let url = Url::parse(&text).map_err(|error| refused(format!("option `url` is no URL: {error}")))?;
        let origin = Origin::parse(&url.origin().ascii_serialization());
        let origin = origin.map_err(|_| refused("option `url` begins with `https://` or `http://`"))?;
        let mode = match options.text("mode").as_deref() {
            None | Some("checkpointed") => Mode::Checkpointed,
            Some("immediate") => Mode::Immediate,
            Some(other) => {
                return Err(refused(format!(
                    "option `mode` is `{other}`: checkpointed or immediate"
                )));
            }
        };
        let body = match options.text("body").as_deref() {
            None | Some("lines") => Body::Lines,
            Some("array") => Body::Array,
            Some(other) => return Err(refused(format!("option `body` is `{other}`: lines or array"))),
        };
        let mut number = |name, default| Ok::<u64, Error>(options.parsed(name, "a number")?.unwrap_or(default));
        let timeout_ms = number("timeout.ms", TIMEOUT_MS_DEFAULT)?;
        let attempts = number("attempts", ATTEMPTS_DEFAULT.into())?;
        let delay_ms = number("retry.delay.ms", RETRY_DELAY_MS_DEFAULT)?;
        let rows_per_entry = number("batch.rows", BATCH_ROWS_DEFAULT as u64)? as usize;
        let bytes_max = number("log.bytes", LOG_BYTES_DEFAULT as u64)? as usize;
        let requests_max = number("requests.max", 1)? as usize;
        let zeros = [
            ("timeout.ms", timeout_ms == 0),
            ("attempts", attempts == 0),
            ("batch.rows", rows_per_entry == 0),
            ("log.bytes", bytes_max == 0),
            ("requests.max", requests_max == 0),
        ];
        if let Some((name, _)) = zeros.into_iter().find(|(_, zero)| *zero) {
            return Err(refused(format!("option `{name}` is at least 1")));
        }
        if requests_max > REQUESTS_MAX {
            return Err(refused(format!("option `requests.max` is at most {REQUESTS_MAX}")));
        }
        if requests_max > 1 && mode == Mode::Immediate {
            let message = "option `requests.max` is for mode `checkpointed`: what is sent as it comes is sent in order";
            return Err(refused(message));
        }
        let settings = Settings {
            url,
            mode,
            body,
            headers: options.prefixed("header."),
            token: Password::take(&mut options)?,
            limits: Limits {
                rows_per_entry,
                bytes_max,
                otherwise: "raise option `log.bytes`, or send without waiting (option `mode` = `immediate`)",
            },
            requests_max,
            requests: RequestsDecl {
                order: RequestOrder::Ordered,
                capacity: 1,
                timeout_ms,
                retry: Some(Retry {
                    attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
                    delay_ms,
                    statuses: RETRY_STATUSES.to_vec(),
                }),
                response_bytes_max: RESPONSE_BYTES_MAX,
                origins: vec![origin],
                schema: Schema::empty().into(),
                hints: Vec::new(),
            },
            id: options.text("id").unwrap_or_default(),
        };
        options.finish()?;
        Ok(settings)
    }

    /// The URL as it may be shown: without user, password and query, in which secrets are sent, too.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }
}
