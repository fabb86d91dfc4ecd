//! HTTP requests that the host makes for rows, and what comes of them: values between the operator that has the rows and
//! whoever makes the requests.

/// A request, as a pipeline asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Where it goes.
    pub url: String,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Vec<u8>,
}

/// What a server has answered, whatever the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Names, in lower case, and values, in order.
    pub headers: Vec<(String, String)>,
    /// What was sent.
    pub body: Vec<u8>,
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Time was over.
    Timeout,
    /// The server could not be reached, or the connection broke.
    Connection,
    /// The body of the response is longer than it may be.
    TooLarge,
    /// It went to an origin that the pipeline did not ask for, or was not granted.
    NotAllowed,
    /// It is no request that could be made.
    Invalid,
}

impl FailureKind {
    /// Its name in blocks.
    ///
    /// ```
    /// # use millrace_core::requests::FailureKind;
    /// assert_eq!(FailureKind::TooLarge.name(), "too-large");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::Timeout => "timeout",
            FailureKind::Connection => "connection",
            FailureKind::TooLarge => "too-large",
            FailureKind::NotAllowed => "not-allowed",
            FailureKind::Invalid => "invalid",
        }
    }
}

/// There is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub kind: FailureKind,
    /// The same in words.
    pub message: String,
}

/// What comes of a request.
pub type Answer = Result<Response, Failure>;

/// Tells requests of a subtask apart.
pub type Ticket = i64;
