//! Errors as every part of the host reports them.
//!
//! Each answers three questions: whose fault it is, what stable code it has (`docs/errors/CODE.md` explains
//! it and names the remedy), and what happened, in the user's words. Context is added on the way up with
//! [`Error::context`], so that the message ends up naming job, operator and row.

use std::fmt;

/// Result of anything that can fail in the host.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is; it decides the exit code and whether a restart can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The pipeline or its configuration is wrong: restarting does not help. Exit code 2.
    User,
    /// User code failed while running: a trap, a limit, a rejected row. Exit code 3.
    Pipeline,
    /// A file, server or device failed. Exit code 4.
    External,
    /// A bug in Millrace. Exit code 70.
    Internal,
}

impl Fault {
    /// Exit code of a process that ends with this fault.
    pub fn exit_code(self) -> u8 {
        match self {
            Fault::User => 2,
            Fault::Pipeline => 3,
            Fault::External => 4,
            Fault::Internal => 70,
        }
    }
}

/// An error with a fault, a stable code and a message that grows outwards.
#[derive(Debug, Clone)]
pub struct Error {
    fault: Fault,
    code: &'static str,
    message: String,
    context: Vec<String>,
}

impl Error {
    /// An error of any fault. `code` is two letters and four digits, as in `docs/errors/`.
    pub fn new(fault: Fault, code: &'static str, message: impl Into<String>) -> Self {
        Error {
            fault,
            code,
            message: message.into(),
            context: Vec::new(),
        }
    }

    /// The pipeline or its configuration is wrong.
    pub fn user(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::User, code, message)
    }

    /// User code failed while running.
    pub fn pipeline(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::Pipeline, code, message)
    }

    /// The outside world failed.
    pub fn external(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::External, code, message)
    }

    /// A bug in Millrace.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Fault::Internal, "IN0001", message)
    }

    /// Says where it happened; the outermost context is printed first.
    ///
    /// ```
    /// # use millrace_core::Error;
    /// let error = Error::external("IO0001", "no such file").context("source `lines`");
    /// assert_eq!(error.to_string(), "source `lines`: no such file");
    /// ```
    #[must_use]
    pub fn context(mut self, what: impl Into<String>) -> Self {
        self.context.push(what.into());
        self
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The stable code, the name of its page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
