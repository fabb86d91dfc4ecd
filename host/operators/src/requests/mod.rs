//! Rows that wait for answers: which requests are made, and in which order rows go on.
//!
//! ```text
//!   block --> rows, each with a request --next_request--> whoever makes them
//!                      |                                        |
//!   marks (watermarks) | in order, in segments          handle_answer
//!                      v                                        |
//!             first segment: rows that may go  <----------------'
//!             its mark, when none is left  --> poll_output
//! ```
//!
//! A mark ends a *segment*: rows of one never go on before a mark that came ahead of them, nor behind one that came after
//! them. Within a segment they go in the order in which they came, or as they are answered. Rows are numbered; a number is the
//! key under which a row is kept in checkpoints, and of a key group of the subtask, so that other subtasks can take the
//! rows over. What a checkpoint holds is asked for again: a request may be made more than once.
//!
//! Nothing here makes requests or has a clock.

mod columns;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::take::take_record_batch;
use millrace_core::block::{Block, Millis};
use millrace_core::graph::{RequestOrder, RequestsDecl};
use millrace_core::key::{KeyGroup, KeyGroups, hash_integer};
use millrace_core::requests::{Answer, Request, Ticket};
use millrace_core::{Error, Result};

use self::columns::{Asked, answered};
use crate::changes::{TableSchema, broken};

/// Rows that go on in one block, and about how many bytes of answers.
const ROWS_PER_BLOCK: usize = 1024;
const BYTES_PER_BLOCK: usize = 4 << 20;

/// What travels between rows, and does not overtake them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// No earlier row comes.
    Watermark(Millis),
    /// Nothing comes for now.
    Idle,
}

/// What goes on.
#[derive(Debug)]
pub enum Passed {
    /// Rows with their answers.
    Rows(Block),
    /// A mark behind them.
    Mark(Mark),
}

/// A row under way.
#[derive(Debug)]
struct Row {
    batch: u64,
    /// Which row of the batch.
    index: u32,
    time: Option<Millis>,
    segment: u64,
    /// Once it may go on: what its request came to, if it had one.
    done: Option<Option<Answer>>,
}

/// Rows that came together, as long as one of them is under way.
#[derive(Debug)]
struct Batch {
    asked: Asked,
    left: usize,
}

/// Rows between two marks.
#[derive(Debug, Default)]
struct Segment {
    /// In the order in which they go on: as they came, or as they were answered.
    rows: VecDeque<Ticket>,
    /// Rows that have not gone on.
    left: usize,
    /// What ends it.
    mark: Option<Mark>,
}

/// The host's half of HTTP requests for rows.
///
/// Give it blocks and marks in their order, at most [`room`](Self::room) rows; make what
/// [`next_request`](Self::next_request) says, give it the answers, and send on what [`poll_output`](Self::poll_output) has.
#[derive(Debug)]
pub struct RequestsOperator {
    declared: RequestsDecl,
    input: SchemaRef,
    table: TableSchema,
    rows: BTreeMap<Ticket, Row>,
    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
    segments: VecDeque<Segment>,
    /// Number of the first segment.
    first_segment: u64,
    /// Rows whose requests were not made yet.
    unsent: VecDeque<Ticket>,
    in_flight: usize,
    next_ticket: Ticket,
    groups: Range<u32>,
    max_parallelism: u32,
}

impl RequestsOperator {
    /// For a subtask that takes rows of this schema.
    pub fn new(
        declared: &RequestsDecl,
        input: SchemaRef,
        (subtask, parallelism): (u32, u32),
        max_parallelism: u32,
    ) -> Self {
        RequestsOperator {
            input,
            table: snapshot::table(declared, max_parallelism),
            declared: declared.clone(),
            rows: BTreeMap::new(),
            batches: BTreeMap::new(),
            next_batch: 0,
            segments: VecDeque::from([Segment::default()]),
            first_segment: 0,
            unsent: VecDeque::new(),
            in_flight: 0,
            next_ticket: 0,
            groups: KeyGroups::new(parallelism, max_parallelism).groups_of(subtask),
            max_parallelism,
        }
    }

    /// How many rows it takes now.
    pub fn room(&self) -> usize {
        self.capacity().saturating_sub(self.rows.len())
    }

    fn capacity(&self) -> usize {
        self.declared.capacity as usize
    }

    /// Whether no row is under way, nor a mark.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.segments.len() == 1
    }

    /// Rows under way.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Rows, no more than there is room for.
    pub fn handle_block(&mut self, block: &Block) -> Result<()> {
        if block.row_count() > self.room() {
            return Err(Error::internal("more rows came than there is room for"));
        }
        // The columns may be part of much larger ones.
        let all = UInt32Array::from_iter_values(0..block.row_count() as u32);
        let rows = take_record_batch(&block.rows, &all).map_err(broken)?;
        let times = (0..block.row_count()).map(|row| block.times.as_ref().map(|times| times[row]));
        let tickets = times.clone().map(|_| self.free_ticket()).collect::<Vec<_>>();
        self.add(&rows, tickets.into_iter().zip(times))
    }

    /// A watermark, or that there is none for now.
    pub fn handle_mark(&mut self, mark: Mark) {
        // Of watermarks without rows between them the last says it all.
        if let [.., before, last] = self.segments.make_contiguous()
            && last.left == 0
            && let (Some(Mark::Watermark(_)), Mark::Watermark(_)) = (before.mark, mark)
        {
            before.mark = Some(mark);
        } else if let Some(last) = self.segments.back_mut() {
            last.mark = Some(mark);
            self.segments.push_back(Segment::default());
        }
    }

    /// The next request that is to be made, if another one may be.
    pub fn next_request(&mut self) -> Result<Option<(Ticket, Request)>> {
        if self.in_flight >= self.capacity() {
            return Ok(None);
        }
        let Some(ticket) = self.unsent.pop_front() else {
            return Ok(None);
        };
        let row = self.rows.get(&ticket).ok_or_else(|| lost(ticket))?;
        let batch = self.batches.get(&row.batch).ok_or_else(|| lost(ticket))?;
        let request = batch.asked.request(row.index as usize);
        self.in_flight += 1;
        Ok(Some((ticket, request)))
    }

    /// What a request came to.
    pub fn handle_answer(&mut self, ticket: Ticket, answer: Answer) -> Result<()> {
        self.in_flight -= 1;
        self.set_done(ticket, Some(answer))
    }

    /// What goes on now, piece by piece.
    pub fn poll_output(&mut self) -> Result<Option<Passed>> {
        let (mut tickets, mut bytes) = (Vec::new(), 0);
        let Some(first) = self.segments.front_mut() else {
            return Err(Error::internal("there is always a segment"));
        };
        while tickets.len() < ROWS_PER_BLOCK
            && bytes < BYTES_PER_BLOCK
            && let Some(ticket) = first.rows.front()
            && let Some(done) = self.rows.get(ticket).and_then(|row| row.done.as_ref())
        {
            bytes += match done {
                Some(Ok(response)) => response.body.len(),
                Some(Err(_)) | None => 0,
            };
            tickets.extend(first.rows.pop_front());
        }
        if !tickets.is_empty() {
            first.left -= tickets.len();
            return self.pass(&tickets).map(|block| Some(Passed::Rows(block)));
        }
        match first.mark.filter(|_| first.left == 0) {
            None => Ok(None),
            Some(mark) => {
                self.segments.pop_front();
                self.first_segment += 1;
                Ok(Some(Passed::Mark(mark)))
            }
        }
    }

    /// A number that no other row has, and whose key group is one of the subtask's.
    fn free_ticket(&mut self) -> Ticket {
        loop {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            let group = KeyGroup::of_hash(hash_integer(ticket), self.max_parallelism);
            if self.groups.contains(&group.0) {
                return ticket;
            }
        }
    }

    fn add(
        &mut self,
        rows: &RecordBatch,
        entries: impl ExactSizeIterator<Item = (Ticket, Option<Millis>)>,
    ) -> Result<()> {
        let asked = Asked::new(rows)?;
        let (number, count) = (self.next_batch, entries.len());
        if count == 0 {
            return Ok(());
        }
        let segment = self.first_segment + self.segments.len() as u64 - 1;
        let mut without = Vec::new();
        for ((ticket, time), index) in entries.zip(0..) {
            match asked.is_request(index as usize) {
                true => self.unsent.push_back(ticket),
                false => without.push(ticket),
            }
            self.rows.insert(
                ticket,
                Row {
                    batch: number,
                    index,
                    time,
                    segment,
                    done: None,
                },
            );
            if let Some(last) = self.segments.back_mut() {
                last.left += 1;
                if self.declared.order == RequestOrder::Ordered {
                    last.rows.push_back(ticket);
                }
            }
        }
        self.batches.insert(number, Batch { asked, left: count });
        self.next_batch += 1;
        without.into_iter().try_for_each(|ticket| self.set_done(ticket, None))
    }

    fn set_done(&mut self, ticket: Ticket, answer: Option<Answer>) -> Result<()> {
        let row = self.rows.get_mut(&ticket).ok_or_else(|| lost(ticket))?;
        row.done = Some(answer);
        if self.declared.order == RequestOrder::Unordered {
            let segment = (row.segment - self.first_segment) as usize;
            let segment = self.segments.get_mut(segment).ok_or_else(|| lost(ticket))?;
            segment.rows.push_back(ticket);
        }
        Ok(())
    }

    /// The block of rows that go on; they are under way no more.
    fn pass(&mut self, tickets: &[Ticket]) -> Result<Block> {
        let mut rows = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            rows.push(self.rows.remove(ticket).ok_or_else(|| lost(*ticket))?);
        }
        let column = columns::gather(&self.batches, rows.iter(), Asked::rows)?;
        let answers = rows.iter().map(|row| row.done.as_ref().and_then(Option::as_ref));
        let block =
            RecordBatch::try_new(self.declared.schema.clone(), vec![column, answered(answers)?]).map_err(broken)?;
        let times = rows.iter().map(|row| row.time).collect::<Option<Vec<Millis>>>();
        for row in &rows {
            let Some(batch) = self.batches.get_mut(&row.batch) else {
                return Err(Error::internal("rows outlived their batch"));
            };
            batch.left -= 1;
            if batch.left == 0 {
                self.batches.remove(&row.batch);
            }
        }
        Ok(Block {
            rows: block,
            times: times.map(Into::into),
            keys: None,
        })
    }
}

fn lost(ticket: Ticket) -> Error {
    Error::internal(format!("row {ticket}, which was under way, is not there"))
}
