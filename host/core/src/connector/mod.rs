//! Sources and sinks: the one interface behind which every connector lives.
//!
//! A [`Source`] is split into [`Split`]s; a subtask reads some of them with one [`SplitReader`] each, and
//! the engine makes watermarks per split. A split's position can be checkpointed at any moment between two
//! polls, and a reader opened at that position gives the rows after it. A [`Sink`] has one [`SinkWriter`]
//! per subtask with the two-phase protocol: `write`, `pre_commit`, then `commit` or `abort`.
//!
//! Readers and writers are synchronous and run on a slot's thread: they may read a disk, but whatever can
//! wait without end (standard input, a socket) must wait on a thread of its own and say
//! [`Poll::Pending`].

mod enumerator;
mod kept;
mod lookup;
mod options;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::error::Result;
pub use enumerator::{Enumerated, SplitEnumerator};
pub use kept::KeptFor;
pub use lookup::{KeyedReader, KeyedTable};
pub use options::Options;
pub use secrets::without_passwords;

/// Whether a source ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundedness {
    /// Gives a finite number of rows.
    Bounded,
    /// Goes on until the job is stopped.
    Unbounded,
}

/// A piece of a source that one reader reads in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Unique within the source and stable between runs: `words.txt`, `partition-3`.
    pub id: String,
    /// Where to start; [`Position::START`] the first time.
    pub position: Position,
}

/// A place in a split, opaque to the engine, kept in checkpoints. The connector versions its own encoding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position(pub Vec<u8>);

impl Position {
    /// The beginning of a split.
    pub const START: Position = Position(Vec::new());
}

/// Wakes the slot thread that waits after [`Poll::Pending`]. Cheap to clone; may be called from any thread.
#[derive(Clone)]
pub struct Waker(pub Arc<dyn Fn() + Send + Sync>);

/// What a reader or writer is told about where it runs.
#[derive(Clone)]
pub struct SubtaskContext {
    /// Index of the subtask, from 0.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Wakes the slot.
    pub waker: Waker,
    /// Whether the job takes checkpoints that it goes on from after a failure: readers are told of those that are
    /// complete.
    pub checkpoints: bool,
}

/// A row that could not be parsed or converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it came from, for people: `orders.csv line 17`.
    pub place: String,
    /// Why.
    pub cause: String,
    /// The row as it was read, as far as it is text.
    pub raw: String,
}

/// Rows read at once.
#[derive(Debug, Clone)]
pub struct Rows {
    /// In the schema that the reader was opened with; may have no rows when all were rejected.
    pub rows: RecordBatch,
    /// Rows that did not parse, in order. The engine applies the source's policy.
    pub rejected: Vec<Rejected>,
    /// Bytes read from outside for these rows, for the metrics.
    pub bytes: u64,
}

/// Answer of a reader.
#[derive(Debug)]
pub enum Poll {
    /// Some rows.
    Rows(Rows),
    /// None right now. The engine polls again after `wake_after`, or when woken; `None`: only when woken.
    Pending {
        /// Longest time to wait.
        wake_after: Option<Duration>,
    },
    /// The split has ended.
    End,
}

/// Monotonic time since the job started; all the clock that connectors get.
pub type Elapsed = Duration;

/// What becomes of rows that a source has given since a checkpoint when the job goes on from that. From good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Replay {
    /// They are read again, from the position in the checkpoint.
    Replayed,
    /// Who had sent them was not answered and sends them again, for readers answer when a checkpoint is complete.
    Resent,
    /// They are gone.
    Lost,
    /// The job cannot go on: there is no reading the source a second time.
    Refused,
}

/// A configured source.
pub trait Source: Send + Sync {
    /// Whether it ends.
    fn boundedness(&self) -> Boundedness;

    /// All splits, in a stable order. Called once at start; checks that what it names is there.
    fn splits(&self, parallelism: u32) -> Result<Vec<Split>>;

    /// Finds splits that turn up later, for an attempt that begins with these, each with the subtask that reads it.
    /// `None`: there will be none.
    fn enumerator(&self, splits: &[(u32, Split)], parallelism: u32) -> Result<Option<Arc<dyn SplitEnumerator>>> {
        let _ = (splits, parallelism);
        Ok(None)
    }

    /// What becomes of rows since a checkpoint when the job goes on from that.
    fn replay(&self) -> Replay {
        Replay::Replayed
    }

    /// Something that is another as soon as a reader would read anything else; `None`: that is not known.
    fn version(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// What is lost when the job goes on from a checkpoint, said once as a warning; `None`: nothing.
    fn lost_on_restart(&self) -> Option<String> {
        None
    }

    /// Opens a split at its position. Rows come in `schema` (as declared by the pipeline).
    fn open(&self, split: &Split, context: &SubtaskContext) -> Result<Box<dyn SplitReader>>;
}

/// Reads one split.
///
/// Order: any number of `poll`, and between two of them any of the others. `refuse` comes right behind the `poll` that it is
/// about. [`handle_complete`](Self::handle_complete) comes at any later time than the `position` that it is given, and may come
/// behind the end.
pub trait SplitReader: Send {
    /// Up to `rows_max` rows, or as many as cannot be parted: what is there now, not waiting to fill up.
    fn poll(&mut self, rows_max: usize, now: Elapsed) -> Result<Poll>;

    /// Where the next poll continues.
    fn position(&self) -> Position;

    /// Where a row of the last poll came from, for people: `orders.csv:17`. `None`: it is not known any closer than
    /// the split.
    fn place(&mut self, row: usize) -> Option<String> {
        let _ = row;
        None
    }

    /// A checkpoint is complete, and this is the [`position`](Self::position) that it holds: the job does not go back behind
    /// it, so that what came before may be acknowledged where it came from. Positions come in their order.
    ///
    /// It is not said of checkpoints that came to nothing, nor of savepoints that a job has made on its way: should it
    /// fail, it goes on from the checkpoint before. Of a complete one it may not be said: the process may end first. Then the reader that
    /// goes on is opened at that position or behind it.
    fn handle_complete(&mut self, position: &Position) -> Result<()> {
        let _ = position;
        Ok(())
    }

    /// One of the rows of the last poll was rejected, and it is the source's policy to fail then. True: whoever has sent the
    /// rows has been told, and the reader has forgotten them; none of them is taken, and the job goes on.
    fn refuse(&mut self, rejected: &Rejected) -> bool {
        let _ = rejected;
        false
    }
}

/// Something pre-committed: enough to commit it after a crash, opaque to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committable(pub Vec<u8>);

/// What delivery guarantee a sink can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Two-phase commit: every row is there once.
    ExactlyOnce,
    /// Rows may be written again after a restart, over themselves: once it has caught up, the result is as if
    /// each had been written once.
    Idempotent,
    /// Rows may be repeated after a restart.
    AtLeastOnce,
}

/// Which sink of which job: the same whenever the job is started again, another for any other sink or job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkContext {
    /// Name of the job.
    pub job: String,
    /// Identity of the operator in checkpoints.
    pub operator: String,
}

/// A configured sink.
pub trait Sink: Send + Sync {
    /// What it can guarantee.
    fn delivery(&self) -> Delivery;

    /// Checks before anything runs that writing can work: folder writable, server there.
    fn check(&self) -> Result<()>;

    /// Tidies up after an earlier attempt of the job, before writers are opened: commits `prepared`, what the
    /// checkpoint that the job goes on from holds, and drops whatever else was written or pre-committed since, but for
    /// what is [kept](Self::keep). Idempotent. Nothing to do where there are no transactions.
    fn recover(&self, prepared: &[Committable]) -> Result<()> {
        let _ = prepared;
        Ok(())
    }

    /// Notes beside the output, durably, that a savepoint holds `prepared`: no [`check`](Self::check) and no
    /// [`recover`](Self::recover) of any process drops it, until the savepoint is [released](Self::release) or what it
    /// holds is committed. Called before the savepoint is written, while writers go on, and again when it is;
    /// of what is committed by then nothing need be noted. Nothing to do where a committable is all that a commit needs.
    fn keep(&self, savepoint: &KeptFor, prepared: &[Committable]) -> Result<()> {
        let _ = (savepoint, prepared);
        Ok(())
    }

    /// The savepoints for which something is kept that is not committed, in the order of their ids.
    fn kept(&self) -> Result<Vec<KeptFor>> {
        Ok(Vec::new())
    }

    /// The savepoint of this [id](KeptFor::id) will never be gone on from: what is kept for it alone is dropped by the next
    /// [`recover`](Self::recover), unless it is committed before. One that is not known is no error.
    fn release(&self, id: &str) -> Result<()> {
        let _ = id;
        Ok(())
    }

    /// Opens the writer of one subtask.
    fn open(&self, context: &SubtaskContext) -> Result<Box<dyn SinkWriter>>;

    /// Results over all subtasks that were opened here, as (name, value), once their writers are done. What a
    /// writer's own [`SinkWriter::summary`] says is in it: show one or the other.
    fn summary(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Writes the rows of one subtask.
///
/// Order: any number of `write` and `flush`, then `pre_commit`, and so on; `commit` of what a `pre_commit` returned
/// comes at any later time, or `abort` of it. After a crash [`Sink::recover`] commits instead, possibly for the
/// second time.
pub trait SinkWriter: Send {
    /// Takes rows. `now` is the time since the job started, on the clock that readers are polled with.
    fn write(&mut self, rows: &RecordBatch, now: Elapsed) -> Result<()>;

    /// Called when no more input is ready: show what may be shown before a commit (standard output).
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes everything written so far durable, but not visible.
    fn pre_commit(&mut self) -> Result<Vec<Committable>>;

    /// Makes what was pre-committed visible. Idempotent.
    fn commit(&mut self, committables: &[Committable]) -> Result<()>;

    /// Drops what was written since the last `pre_commit`, and `prepared`: what earlier ones returned and nobody
    /// will ever commit. Idempotent; what is already gone is no error.
    fn abort(&mut self, prepared: &[Committable]) -> Result<()>;

    /// Bytes written to the outside so far, for the metrics.
    fn bytes_written(&self) -> u64;

    /// Results to show in the job's summary, as (name, value): rows, checksum, files.
    fn summary(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Makes a connector's sources and sinks from options. One per kind.
pub trait Connector: Send + Sync {
    /// The name used in graphs: `files`, `generator`, `stdout`.
    fn kind(&self) -> &'static str;

    /// A source, or an error that names the wrong option; `None` if the connector has no source.
    fn source(&self, options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>>;

    /// A table of rows in `schema` that is asked for rows by these columns of theirs; `None` if the connector has none.
    /// Touches nothing outside.
    fn keyed_table(&self, options: Options, schema: SchemaRef, key: &[usize]) -> Result<Option<Arc<dyn KeyedTable>>> {
        let _ = (options, schema, key);
        Ok(None)
    }

    /// A table of rows in `schema` that is read whole, from its beginning each time; `None` if the connector has none. Unless
    /// it is said otherwise it is the source.
    fn whole_table(&self, options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        self.source(options, schema)
    }

    /// A sink of rows in `schema`; `None` if the connector has no sink. Touches nothing outside.
    fn sink(&self, options: Options, schema: SchemaRef, context: &SinkContext) -> Result<Option<Arc<dyn Sink>>>;
}
