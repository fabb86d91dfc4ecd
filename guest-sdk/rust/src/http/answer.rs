//! Requests, responses, and why there is none.

use std::borrow::Cow;
use std::fmt;

use crate::Record;
use crate::values::Bytes;

/// Name and value of a header.
///
/// ```
/// let header = millrace::http::Header { name: "accept".into(), value: "text/plain".into() };
/// ```
#[derive(Record, Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name; of a response in lower case.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What is asked of a server for a row.
///
/// ```
/// use millrace::prelude::*;
/// let request = Request::post("https://api.example.org/score", r#"{"id": 7}"#).header("content-type", "application/json");
/// ```
#[derive(Record, Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Where it goes.
    pub url: String,
    /// Its headers.
    pub headers: Vec<Header>,
    /// What is sent.
    pub body: Bytes,
}

impl Request {
    /// A request with any method.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let request = Request::new("DELETE", "https://api.example.org/orders/7");
    /// ```
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Request {
            method: method.to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: Bytes::default(),
        }
    }

    /// A `GET` request.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let request = Request::get("https://api.example.org/orders/7");
    /// ```
    pub fn get(url: impl Into<String>) -> Self {
        Request::new("GET", url)
    }

    /// A `POST` request with this body.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let request = Request::post("https://api.example.org/orders", "7");
    /// ```
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Request::new("POST", url).body(body)
    }

    /// The same with another body.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let request = Request::new("PUT", "https://api.example.org/orders/7").body("open");
    /// ```
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Request {
            body: Bytes(body.into()),
            ..self
        }
    }

    /// The same with one more header.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let request = Request::get("https://api.example.org/orders/7").header("accept", "text/plain");
    /// ```
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        let (name, value) = (name.to_owned(), value.into());
        self.headers.push(Header { name, value });
        self
    }
}

/// What a server has answered, whatever the status.
///
/// ```
/// use millrace::prelude::*;
/// let response = Response::new(200, "7");
/// assert!(response.is_success() && response.text() == "7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<Header>,
    /// What was sent.
    pub body: Vec<u8>,
}

impl Response {
    /// A response without headers: for tests.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let response = Response::new(404, "");
    /// ```
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Response {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Whether the status is 200 to 299.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// assert!(!Response::new(404, "").is_success());
    /// ```
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The value of a header, in any case; the first if there are several.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// assert_eq!(Response::new(200, "").header("ETag"), None);
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        named.next().map(|header| header.value.as_str())
    }

    /// The body as text. What is not UTF-8 is replaced.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// assert_eq!(Response::new(200, "7").text(), "7");
    /// ```
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// Why there is no response.
///
/// ```
/// use millrace::http::HttpError;
/// assert_eq!(HttpError::NotAsked.to_string(), "there was no request");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpError {
    /// Time was over.
    Timeout(String),
    /// The server could not be reached, or the connection broke.
    Connection(String),
    /// The body of the response is longer than it may be.
    TooLarge(String),
    /// Its origin is none of those that the pipeline asks for.
    NotAllowed(String),
    /// It is no request that could be made.
    Invalid(String),
    /// The row has none.
    NotAsked,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Timeout(message)
            | HttpError::Connection(message)
            | HttpError::TooLarge(message)
            | HttpError::NotAllowed(message)
            | HttpError::Invalid(message) => f.write_str(message),
            HttpError::NotAsked => f.write_str("there was no request"),
        }
    }
}

impl std::error::Error for HttpError {}

/// A response or an error as columns: what the host gives.
#[doc(hidden)]
#[derive(Record, Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0: there is no response.
    pub status: u16,
    /// Of the response.
    pub headers: Vec<Header>,
    /// Of the response.
    pub body: Bytes,
    /// Why there is none.
    pub error: Option<String>,
    /// The same in words.
    pub message: String,
}

impl Answer {
    /// As functions see it.
    pub(crate) fn outcome(answer: Option<Answer>) -> Result<Response, HttpError> {
        let Some(answer) = answer else {
            return Err(HttpError::NotAsked);
        };
        let Answer {
            status,
            headers,
            body,
            error,
            message,
        } = answer;
        match error.as_deref() {
            None => Ok(Response {
                status,
                headers,
                body: body.0,
            }),
            Some("timeout") => Err(HttpError::Timeout(message)),
            Some("too-large") => Err(HttpError::TooLarge(message)),
            Some("not-allowed") => Err(HttpError::NotAllowed(message)),
            Some("invalid") => Err(HttpError::Invalid(message)),
            Some(_) => Err(HttpError::Connection(message)),
        }
    }

    /// As the host would give it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn of(outcome: Result<Response, HttpError>) -> Option<Answer> {
        let error = match outcome {
            Ok(response) => {
                return Some(Answer {
                    status: response.status,
                    headers: response.headers,
                    body: Bytes(response.body),
                    error: None,
                    message: String::new(),
                });
            }
            Err(error) => error,
        };
        let name = match &error {
            HttpError::Timeout(_) => "timeout",
            HttpError::Connection(_) => "connection",
            HttpError::TooLarge(_) => "too-large",
            HttpError::NotAllowed(_) => "not-allowed",
            HttpError::Invalid(_) => "invalid",
            HttpError::NotAsked => return None,
        };
        Some(Answer {
            status: 0,
            headers: Vec::new(),
            body: Bytes::default(),
            error: Some(name.to_owned()),
            message: error.to_string(),
        })
    }
}
