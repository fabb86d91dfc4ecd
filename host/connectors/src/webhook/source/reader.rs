//! The reader of an attempt: rows from requests, one request a poll, and answers when these are safe.
//!
//! ```text
//!   posted --> known by its key? --> rows --> taken, waits --> its position is in a complete checkpoint --> 200
//!                 |                    |
//!                 '- answered, or      '- a row is none, and the policy is to fail --> 400, and nothing is taken
//!                    waits as well
//! ```
//!
//! A request is taken as a whole or not at all, so no barrier comes between its rows.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use arrow_schema::SchemaRef;
use hyper::StatusCode;
use millrace_core::Result;
use millrace_core::connector::{Elapsed, Poll, Position, Rejected, Rows, SplitReader};
use tokio::sync::oneshot;

use super::body;
use super::ledger::{Known, Ledger};
use super::reply::Reply;
use super::server::{Posted, Server};
use super::settings::Settings;
use crate::format::{Format, RowParser};

/// Requests without rows looked at in a poll: barriers come between.
const REQUESTS_PER_POLL: usize = 64;

/// A request that was taken and is not answered.
struct Waiting {
    /// Which one it was, or which one it repeats.
    number: u64,
    reply: Reply,
    answer: oneshot::Sender<Reply>,
}

/// See the module's documentation.
pub(super) struct Reader {
    settings: Arc<Settings>,
    server: Arc<Server>,
    attached: u64,
    posted: Receiver<Posted>,
    parser: RowParser,
    ledger: Ledger,
    /// Requests are answered when they are taken.
    on_receipt: bool,
    waiting: Vec<Waiting>,
}

impl Reader {
    pub(super) fn new(
        settings: Arc<Settings>,
        schema: &SchemaRef,
        ledger: Ledger,
        on_receipt: bool,
        (server, attached, posted): (Arc<Server>, u64, Receiver<Posted>),
    ) -> Result<Self> {
        Ok(Reader {
            parser: RowParser::new(&settings.path, &Format::Ndjson, schema, None, Default::default())?,
            settings,
            server,
            attached,
            posted,
            ledger,
            on_receipt,
            waiting: Vec::new(),
        })
    }

    /// Takes a request, if it is new and has rows.
    fn take(&mut self, posted: Posted) -> Result<Option<Rows>> {
        let durable = !self.on_receipt;
        match posted.key.map_or(Known::New, |key| self.ledger.look_up(key)) {
            Known::New => {}
            Known::Durable => {
                reply(posted.answer, Reply::Repeated { durable: true });
                return Ok(None);
            }
            Known::Taken(number) => {
                self.wait(number, Reply::Repeated { durable }, posted.answer);
                return Ok(None);
            }
            Known::OfAnother => {
                let why = "the `Idempotency-Key` was that of a request with another body";
                reply(posted.answer, Reply::wrong(StatusCode::UNPROCESSABLE_ENTITY, why));
                return Ok(None);
            }
        }
        let bytes = posted.body.len() as u64;
        let name = format!("{} request {}", self.settings.path, self.ledger.taken() + 1);
        self.parser.restart(name);
        let buffer = self.parser.buffer_mut();
        buffer.extend_from_slice(&posted.body);
        if let Err(why) = body::into_lines(posted.kind, buffer) {
            reply(posted.answer, Reply::wrong(StatusCode::BAD_REQUEST, why));
            return Ok(None);
        }
        self.parser.close();
        self.parser.frame(usize::MAX)?;
        let Some((rows, rejected)) = self.parser.take(&mut || 0)? else {
            let none = Reply::Taken {
                rows: 0,
                rejected: 0,
                durable: true,
            };
            reply(posted.answer, none);
            return Ok(None);
        };
        let number = self.ledger.take(posted.key);
        let taken = Reply::Taken {
            rows: rows.num_rows(),
            rejected: rejected.len(),
            durable,
        };
        self.wait(number, taken, posted.answer);
        Ok(Some(Rows { rows, rejected, bytes }))
    }

    fn wait(&mut self, number: u64, reply: Reply, answer: oneshot::Sender<Reply>) {
        // Those that wait no longer are at most as many again.
        if self.waiting.len() > 2 * self.settings.requests_max {
            self.waiting.retain(|waiting| !waiting.answer.is_closed());
        }
        self.waiting.push(Waiting { number, reply, answer });
    }

    /// Answers requests up to this number.
    fn answer_up_to(&mut self, number: u64) {
        let safe = self.waiting.extract_if(.., |waiting| waiting.number <= number);
        safe.for_each(|waiting| reply(waiting.answer, waiting.reply));
    }
}

/// Answers a request. Its sender may have gone.
fn reply(answer: oneshot::Sender<Reply>, with: Reply) {
    let _ = answer.send(with);
}

impl SplitReader for Reader {
    fn poll(&mut self, _rows_max: usize, _now: Elapsed) -> Result<Poll> {
        if self.on_receipt {
            // What was given before was not refused.
            self.answer_up_to(self.ledger.taken());
        }
        for _ in 0..REQUESTS_PER_POLL {
            let Ok(posted) = self.posted.try_recv() else {
                return Ok(Poll::Pending { wake_after: None });
            };
            // Its sender was told to come back, or has gone, and does.
            if posted.answer.is_closed() {
                continue;
            }
            if let Some(rows) = self.take(posted)? {
                return Ok(Poll::Rows(rows));
            }
        }
        Ok(Poll::Pending {
            wake_after: Some(Duration::ZERO),
        })
    }

    fn position(&self) -> Position {
        self.ledger.position()
    }

    fn place(&mut self, row: usize) -> Option<String> {
        self.parser.row_place(row, 0)
    }

    fn handle_complete(&mut self, position: &Position) -> Result<()> {
        let durable = self.ledger.complete(position)?;
        self.answer_up_to(durable);
        Ok(())
    }

    fn refuse(&mut self, rejected: &Rejected) -> bool {
        let last = self.ledger.taken();
        let Some(refused) = self.waiting.pop_if(|waiting| waiting.number == last) else {
            return false;
        };
        self.ledger.give_back();
        let why = format!("{}: {}", rejected.place, rejected.cause);
        reply(refused.answer, Reply::wrong(StatusCode::BAD_REQUEST, why));
        true
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Whoever waits is told to come back: their answers have nobody to give them.
        self.server.detach(self.attached);
    }
}
