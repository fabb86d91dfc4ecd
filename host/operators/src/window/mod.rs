//! Windows: rows to accumulators, and results when their time has come.
//!
//! A [`WindowOperator`] gives every (key, window) a slot, by which the guest keeps an accumulator. Per
//! block it resolves all rows to slots and makes one `accumulate` call; when the watermark passes the end
//! of windows it makes `emit` calls in order of window end. Nothing is done per row but the look-up of a
//! slot, and nothing waits in a timer per key: windows end in buckets.
//!
//! - `sliced` does tumbling and sliding windows. A sliding window is cut into slices that neighbouring
//!   windows share, so that a row is added once; slices are merged when a window fires.
//! - `session` does sessions, which may merge when a row falls between two.
//!
//! # Time
//!
//! As in Flink: a window [start, end) fires when the watermark is at or past end - 1. It takes rows until
//! the watermark is at or past end - 1 + allowed lateness; rows that come between the two fire the windows
//! and keys they touch again, once per block. A row whose windows are all past that is late: it goes to
//! the late port, or is dropped and counted.

mod careful;
mod emission;
mod import;
mod late;
mod session;
mod sliced;
mod slots;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{FieldRef, SchemaRef};
use millrace_core::backend::PartedTier;
use millrace_core::block::{Block, Millis, WATERMARK_MIN};
use millrace_core::checkpoint::TableDelta;
use millrace_core::function::WindowFunction;
use millrace_core::graph::{WindowAssigner, WindowDecl};
use millrace_core::{Error, Result};

use self::session::SessionWindows;
use self::sliced::{Grid, SlicedWindows};
use self::slots::SlotAllocator;

/// Slots per call of the guest's functions, except `accumulate`. Few in tests, so that firings take many.
const SLOTS_PER_CALL: usize = if cfg!(test) { 3 } else { 4096 };

/// Rows that got into no window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowCounters {
    /// Rows that came too late for every window they belong to.
    pub late_rows: u64,
    /// Those among the late rows that were dropped, for there is no late port.
    pub dropped_rows: u64,
    /// Rows in time that belong to no window, because sliding windows leave gaps (slide > size).
    pub outside_rows: u64,
}

/// The host's half of a windowed chain.
///
/// After [`handle_watermark`](Self::handle_watermark) call [`fire`](Self::fire) until nothing is due, and nothing
/// else in between. After an error the operator is unusable: the call that failed may have been applied in part.
#[derive(Debug)]
pub struct WindowOperator {
    windows: Windows,
    context: Context,
}

#[derive(Debug)]
enum Windows {
    Sliced(Box<SlicedWindows>),
    Session(Box<SessionWindows>),
}

/// What both kinds of windows share.
#[derive(Debug)]
struct Context {
    watermark: Millis,
    lateness: Millis,
    late_ports: Vec<bool>,
    /// That the rows at hand are of.
    input: u32,
    slots: SlotAllocator,
    counters: WindowCounters,
    /// Older rows of what is here may still come: nothing leaves.
    restoring: bool,
}

impl WindowOperator {
    /// For a chain with this key and these windows, of a graph that was planned.
    pub fn new(key_schema: SchemaRef, window: &WindowDecl) -> Result<Self> {
        let sliced = |grid| Ok::<_, Error>(Windows::Sliced(Box::new(SlicedWindows::new(key_schema.clone(), grid)?)));
        let windows = match window.assigner {
            WindowAssigner::Tumbling { size_ms, offset_ms } => sliced(Grid::new(size_ms, size_ms, offset_ms))?,
            WindowAssigner::Sliding {
                size_ms,
                slide_ms,
                offset_ms,
            } => sliced(Grid::new(size_ms, slide_ms, offset_ms))?,
            WindowAssigner::Session { gap_ms } => Windows::Session(Box::new(SessionWindows::new(key_schema, gap_ms)?)),
        };
        Ok(WindowOperator {
            windows,
            context: Context {
                watermark: WATERMARK_MIN,
                lateness: window.allowed_lateness_ms,
                late_ports: window.late_ports.iter().map(Option::is_some).collect(),
                input: 0,
                slots: SlotAllocator::default(),
                counters: WindowCounters::default(),
                restoring: false,
            },
        })
    }

    /// The rows that a snapshot would have for a key, whose accumulators are of this field, wherever they are. Nothing changes
    /// by that.
    pub fn look_up(
        &mut self,
        key: &[ArrayRef],
        accumulator: &FieldRef,
        max_parallelism: u32,
        function: &mut dyn WindowFunction,
    ) -> Result<Vec<RecordBatch>> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.look_up(key, accumulator, max_parallelism, function),
            Windows::Session(windows) => windows.look_up(key, accumulator, max_parallelism, function),
        }
    }

    /// The blocks that follow are of this input. All inputs share keys and windows; only late rows go their own ways.
    pub fn set_input(&mut self, input: u32) {
        self.context.input = input;
    }

    /// Rows with their keys and event times. Rows too late for any window are appended to `late` if the
    /// declaration has a late port for their input.
    pub fn handle_block(
        &mut self,
        key_columns: &[ArrayRef],
        times: &[Millis],
        block: &Block,
        function: &mut dyn WindowFunction,
        late: &mut Vec<Block>,
    ) -> Result<()> {
        let rows = block.row_count();
        if times.len() != rows || key_columns.iter().any(|column| column.len() != rows) {
            return Err(Error::internal("a block, its times and its keys differ in length"));
        }
        if rows == 0 {
            return Ok(());
        }
        match &mut self.windows {
            Windows::Sliced(windows) => {
                windows.handle_block(&mut self.context, key_columns, times, block, function, late)
            }
            Windows::Session(windows) => {
                windows.handle_block(&mut self.context, key_columns, times, block, function, late)
            }
        }
    }

    /// The watermark advanced: windows that it ends are due.
    pub fn handle_watermark(&mut self, watermark: Millis) {
        self.context.watermark = self.context.watermark.max(watermark);
    }

    /// Fires windows that are due and drops those that take no more rows, as far as about one call of the
    /// guest's functions goes; false: nothing is due any more.
    pub fn fire(&mut self, function: &mut dyn WindowFunction) -> Result<bool> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.fire(&mut self.context, function),
            Windows::Session(windows) => windows.fire(&mut self.context, function),
        }
    }

    /// Keeps track of changes from now on, so that snapshots can be taken. `accumulator` is its field; call it
    /// before the first row.
    pub fn track_changes(&mut self, accumulator: &FieldRef, max_parallelism: u32) {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.track_changes(accumulator, max_parallelism),
            Windows::Session(windows) => windows.track_changes(accumulator, max_parallelism),
        }
    }

    /// Keeps track of changes no more: no snapshots will be taken.
    pub fn forget_changes(&mut self) {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.forget_changes(),
            Windows::Session(windows) => windows.forget_changes(),
        }
    }

    /// Begins a snapshot: of everything if it is to be `full` or there is no earlier one. No firing is under way.
    /// The operator goes on with its rows; call [`export_some`](Self::export_some) until nothing is left.
    pub fn begin_snapshot(&mut self, full: bool) -> Result<()> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.begin_snapshot(full),
            Windows::Session(windows) => windows.begin_snapshot(full),
        }
    }

    /// Exports up to `limit` entries, at least one; false: the snapshot is complete.
    pub fn export_some(&mut self, limit: usize, function: &mut dyn WindowFunction) -> Result<bool> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.export_some(limit, function),
            Windows::Session(windows) => windows.export_some(limit, function),
        }
    }

    /// The snapshot begun last, once it is complete.
    pub fn finish_snapshot(&mut self) -> Option<TableDelta> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.finish_snapshot(),
            Windows::Session(windows) => windows.finish_snapshot(),
        }
    }

    /// Takes up where an operator left off that had seen this watermark and fired what it made due. Before the
    /// first row and before [`restore`](Self::restore).
    pub fn restore_watermark(&mut self, watermark: Millis) {
        self.context.watermark = watermark;
    }

    /// Lays a layer over what was restored so far, oldest first. Before the first row.
    ///
    /// Rows of other keys than this operator's must have been filtered out.
    pub fn restore(&mut self, batch: &RecordBatch, function: &mut dyn WindowFunction) -> Result<()> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.restore(&mut self.context, batch, function),
            Windows::Session(windows) => windows.restore(&mut self.context, batch, function),
        }
    }

    /// Begins to restore from the newest layer on, while rows of what has come are taken. Before the first row. Until
    /// [`end_restore`](Self::end_restore) nothing but blocks is handled.
    pub fn begin_restore(&mut self) {
        self.context.restoring = true;
    }

    /// Restores what a batch says of entries that have not come yet. Of each layer the last batch comes first.
    pub fn restore_newest(&mut self, batch: &RecordBatch, function: &mut dyn WindowFunction) -> Result<()> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.restore_newest(&mut self.context, batch, function),
            Windows::Session(windows) => windows.restore_newest(&mut self.context, batch, function),
        }
    }

    /// Restores what a batch says of entries that were not among the newest to the lower tier, which is there. Behind all
    /// of the newest, from the oldest layer on.
    pub fn restore_older(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.restore_older(&self.context, batch),
            Windows::Session(windows) => windows.restore_older(&self.context, batch),
        }
    }

    /// Which rows with these keys and times may be taken now: what they are added to has come.
    pub fn find_restored(&mut self, key_columns: &[ArrayRef], times: &[Millis]) -> Result<Vec<bool>> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.find_restored(&self.context, key_columns, times),
            Windows::Session(windows) => windows.find_restored(key_columns),
        }
    }

    /// All layers have come.
    pub fn end_restore(&mut self) {
        self.context.restoring = false;
    }

    /// Rows that got into no window, so far.
    pub fn counters(&self) -> WindowCounters {
        self.context.counters
    }

    /// Number of accumulators; about, with a lower tier.
    pub fn slot_count(&self) -> usize {
        let below = match &self.windows {
            Windows::Sliced(windows) => windows.only_below(),
            Windows::Session(windows) => windows.only_below(),
        };
        self.resident_count() + below as usize
    }

    /// Number of accumulators that the guest holds.
    pub fn resident_count(&self) -> usize {
        self.context.slots.used()
    }

    /// Most accumulators that the guest has held at a time.
    pub fn resident_count_max(&self) -> usize {
        self.context.slots.used_max()
    }

    /// [`memory_bytes`](Self::memory_bytes) as it will be once tables of keys have grown, as far as they are about to.
    pub fn memory_bytes_soon(&self) -> usize {
        let growth = match &self.windows {
            Windows::Sliced(windows) => windows.growth_bytes_soon(),
            Windows::Session(windows) => windows.growth_bytes_soon(),
        };
        self.memory_bytes() + growth
    }

    /// Bytes of host memory held for keys and windows, about.
    pub fn memory_bytes(&self) -> usize {
        match &self.windows {
            Windows::Sliced(windows) => windows.memory_bytes(),
            Windows::Session(windows) => windows.memory_bytes(),
        }
    }

    /// Puts a lower tier under the operator, whose accumulator is this field. Up to `resident_max` accumulators stay in
    /// the guest between blocks. What the operator has goes on; call it before restoring, so that what is
    /// restored goes below and comes up when it is needed. No firing is under way.
    pub fn set_lower_tier(
        &mut self,
        tier: Box<dyn PartedTier>,
        accumulator: &FieldRef,
        max_parallelism: u32,
        resident_max: usize,
    ) -> Result<()> {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.set_lower_tier(tier, accumulator, max_parallelism, resident_max),
            Windows::Session(windows) => {
                windows.set_lower_tier(&self.context, tier, accumulator, max_parallelism, resident_max)
            }
        }
    }

    /// Whether firing puts accumulators of several slices together, so that there are up to twice as many meanwhile.
    pub fn merges_slices(&self) -> bool {
        match &self.windows {
            Windows::Sliced(windows) => windows.merges_slices(),
            Windows::Session(_) => false,
        }
    }

    /// Whether there is a lower tier.
    pub fn has_lower_tier(&self) -> bool {
        match &self.windows {
            Windows::Sliced(windows) => windows.has_lower_tier(),
            Windows::Session(windows) => windows.has_lower_tier(),
        }
    }

    /// Changes how many accumulators stay in the guest; more leave with the next block.
    pub fn set_resident_max(&mut self, resident_max: usize) {
        match &mut self.windows {
            Windows::Sliced(windows) => windows.set_resident_max(resident_max),
            Windows::Session(windows) => windows.set_resident_max(resident_max),
        }
    }
}

impl Context {
    /// Whether somebody takes late rows of the input at hand.
    fn has_late_port(&self) -> bool {
        self.late_ports
            .get(self.input as usize)
            .is_some_and(|is_taken| *is_taken)
    }

    /// Whether a window whose last ms is `last` has ended.
    fn ended(&self, last: Millis) -> bool {
        last <= self.watermark
    }

    /// Whether a window whose last ms is `last` takes no more rows.
    fn expired(&self, last: Millis) -> bool {
        last.saturating_add(self.lateness) <= self.watermark
    }
}

#[cfg(test)]
mod tests;
