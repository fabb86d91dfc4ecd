//! In place of [`http`](self) where it is not built in: pipelines that ask for requests are refused by name.

use millrace_core::connector::Waker;
use millrace_core::graph::RequestsDecl;
use millrace_core::requests::{Answer, Request, Ticket};
use millrace_core::{Error, Result};

/// Would make the requests of an operator.
#[derive(Debug, Clone)]
pub struct Client;

/// Would make the requests of a subtask.
#[derive(Debug)]
pub struct Requester;

impl Client {
    /// Always an error.
    pub fn new(_: &RequestsDecl) -> Result<Self> {
        let message = "this program was built without HTTP requests (feature `http`)";
        Err(Error::user("HT0004", message))
    }

    /// Never called.
    pub fn requester(&self, _: Waker) -> Requester {
        Requester
    }
}

impl Requester {
    /// Never called.
    pub fn send(&mut self, _: Ticket, _: Request) {}

    /// There are none.
    pub fn has_answers(&self) -> bool {
        false
    }

    /// There are none.
    pub fn take_answers(&mut self, _: &mut Vec<(Ticket, Answer)>) {}

    /// There are none.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
}

/// What became of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts after the first.
    pub retries: u64,
    /// Rows whose time was over.
    pub timeouts: u64,
    /// Rows without a response for another reason.
    pub failures: u64,
}
