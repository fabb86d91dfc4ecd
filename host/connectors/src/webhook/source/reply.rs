//! What requests are answered with.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

/// Seconds after which a sender may try again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// The rows are taken.
    Taken {
        rows: usize,
        /// Those that are none, and went where the policy says.
        rejected: usize,
        /// A complete checkpoint holds them; otherwise they are on their way.
        durable: bool,
    },
    /// They were taken when the request came before.
    Repeated { durable: bool },
    /// The request is wrong, and stays wrong.
    Wrong { status: StatusCode, why: String },
    /// It can be taken later.
    Later { why: String },
}

impl Reply {
    pub(super) fn wrong(status: StatusCode, why: impl Into<String>) -> Self {
        let why = why.into();
        Reply::Wrong { status, why }
    }

    pub(super) fn later(why: impl Into<String>) -> Self {
        Reply::Later { why: why.into() }
    }

    fn status(&self) -> StatusCode {
        match self {
            Reply::Taken { durable: true, .. } | Reply::Repeated { durable: true } => StatusCode::OK,
            Reply::Taken { durable: false, .. } | Reply::Repeated { durable: false } => StatusCode::ACCEPTED,
            Reply::Wrong { status, .. } => *status,
            Reply::Later { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn body(&self) -> String {
        let body = match self {
            Reply::Taken { rows, rejected: 0, .. } => json!({ "rows": rows }),
            Reply::Taken { rows, rejected, .. } => json!({ "rows": rows, "rejected": rejected }),
            Reply::Repeated { .. } => json!({ "rows": 0, "repeated": true }),
            Reply::Wrong { why, .. } | Reply::Later { why } => json!({ "error": why }),
        };
        format!("{body}\n")
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status() {
            StatusCode::METHOD_NOT_ALLOWED => headers.insert(ALLOW, HeaderValue::from_static("POST")),
            StatusCode::UNAUTHORIZED => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS)),
            _ => None,
        };
        response
    }
}
