//! The requests task: rows that wait for what the host asks of servers for them.
//!
//! The operator decides which requests are made and what goes on; the connector makes them, off this thread, and wakes the
//! slot when there are answers. Nothing waits here: while as many rows are under way as may be, the subtask takes none, and
//! its inputs fill.

use millrace_connectors::http::{Counts, Requester};
use millrace_core::Result;
use millrace_core::block::{Block, Millis, WATERMARK_MAX, WATERMARK_MIN};
use millrace_core::checkpoint::TableDelta;
use millrace_core::requests::{Answer, Ticket};
use millrace_operators::RequestsOperator;
use millrace_operators::requests::{Mark, Passed};
use millrace_state::convert::Converter;
use millrace_state::redistribute::TaskRestore;

use super::outputs::Outputs;
use crate::metrics::SubtaskMetrics;

/// One subtask of requests.
pub(crate) struct RequestsTask {
    operator: RequestsOperator,
    requester: Requester,
    answers: Vec<(Ticket, Answer)>,
    counted: Counts,
    /// The last that came, which may be on its way.
    watermark: Millis,
    /// A block is next, and there is no room for it.
    waits_for_room: bool,
    /// Nothing goes on: it is behind the barrier of the last checkpoint.
    frozen: bool,
}

impl RequestsTask {
    pub(crate) fn new(operator: RequestsOperator, requester: Requester) -> Self {
        RequestsTask {
            operator,
            requester,
            answers: Vec::new(),
            counted: Counts::default(),
            watermark: WATERMARK_MIN,
            waits_for_room: false,
            frozen: false,
        }
    }

    /// Goes on with the rows that a checkpoint holds: they are asked for again. The watermark that came behind them may
    /// not have gone on.
    pub(crate) fn restore(
        &mut self,
        stored: TaskRestore,
        converter: Option<&Converter>,
        settles: bool,
        now: Millis,
    ) -> Result<()> {
        let stored = match converter {
            None => stored,
            Some(converter) => {
                let mut migrate = |_, _, _: &_| Err(millrace_core::Error::internal("requests have no migrations"));
                converter.convert(stored, now, &mut migrate)?
            }
        };
        self.operator.restore(&stored.batches)?;
        // Where all had come there may be more input now, which must not be late.
        let watermark = stored
            .watermark
            .filter(|watermark| *watermark != WATERMARK_MAX || settles);
        if let Some(watermark) = watermark {
            self.handle_watermark(watermark);
        }
        Ok(())
    }

    /// How many rows it takes now.
    pub(crate) fn room(&self) -> usize {
        self.operator.room()
    }

    /// A block is next and waits for room: nothing is taken before there is some.
    pub(crate) fn wait_for_room(&mut self) {
        self.waits_for_room = true;
    }

    /// Whether input is of no use now.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.waits_for_room && self.room() == 0
    }

    /// Whether there is something to do without input.
    pub(crate) fn has_answers(&self) -> bool {
        !self.frozen && self.requester.has_answers()
    }

    /// Whether all that came has gone on.
    pub(crate) fn is_empty(&self) -> bool {
        self.operator.is_empty()
    }

    pub(crate) fn handle_block(&mut self, block: &Block) -> Result<()> {
        self.waits_for_room = false;
        self.operator.handle_block(block)
    }

    pub(crate) fn handle_watermark(&mut self, watermark: Millis) {
        // After a restart upstream may take a while to be where it was.
        if watermark > self.watermark {
            self.watermark = watermark;
            self.operator.handle_mark(Mark::Watermark(watermark));
        }
    }

    pub(crate) fn handle_idle(&mut self) {
        self.operator.handle_mark(Mark::Idle);
    }

    pub(crate) fn watermark(&self) -> Millis {
        self.watermark
    }

    /// Nothing goes on any more: what is under way is in the last checkpoint.
    pub(crate) fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Makes requests, takes answers, and sends on what may go; whether anything was done.
    pub(crate) fn step(&mut self, outputs: &mut Outputs, metrics: &SubtaskMetrics) -> Result<bool> {
        if self.frozen {
            return Ok(false);
        }
        let mut worked = false;
        while let Some((ticket, request)) = self.operator.next_request()? {
            self.requester.send(ticket, request);
            worked = true;
        }
        if self.requester.has_answers() {
            self.requester.take_answers(&mut self.answers);
        }
        for (ticket, answer) in self.answers.drain(..) {
            self.operator.handle_answer(ticket, answer)?;
        }
        while outputs.has_room()
            && let Some(passed) = self.operator.poll_output()?
        {
            match passed {
                Passed::Rows(rows) => outputs.emit(0, rows)?,
                Passed::Mark(Mark::Watermark(watermark)) => {
                    metrics.set_watermark(watermark);
                    outputs.watermark(watermark);
                }
                Passed::Mark(Mark::Idle) => outputs.idle(),
            }
            worked = true;
        }
        self.count(metrics);
        Ok(worked)
    }

    /// The metrics are those of earlier attempts, too.
    fn count(&mut self, metrics: &SubtaskMetrics) {
        metrics.requests_in_flight.set(self.operator.row_count() as u64);
        let now = self.requester.counts();
        let before = std::mem::replace(&mut self.counted, now);
        if now != before {
            metrics.request_retries.add(now.retries - before.retries);
            metrics.request_timeouts.add(now.timeouts - before.timeouts);
            metrics.request_failures.add(now.failures - before.failures);
        }
    }

    /// All rows under way.
    pub(crate) fn snapshot(&self) -> Result<TableDelta> {
        self.operator.snapshot()
    }
}
