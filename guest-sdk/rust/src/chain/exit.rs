//! Where rows leave a chain: columns, `$time` and computed keys, packed into blocks.

use std::rc::Rc;

use super::{Emit, RowContext, Tail};
use crate::abi::host;
use crate::bindings::operators::Output;
use crate::bindings::types;
use crate::block::{Block, BlockWriter};
use crate::keyed::KeySelector;
use crate::position;
use crate::schema::Field;
use crate::stream::{TimeSource, WatermarkSource};
use crate::value::{Builder, Record, Value};

/// A block with this many rows goes out at once.
const ROWS_MAX: usize = 65_536;
/// A block with this many bytes goes out at once.
const BYTES_MAX: usize = 1 << 20;
/// Rows between two looks at the bytes.
const STRIDE: usize = 256;

/// The end of a chain.
pub(crate) trait Exit<T: Record>: Tail<T> {
    /// The chain is about to run.
    fn open(&mut self, time_out: bool);
    /// A call with that many entries begins.
    fn begin(&mut self, entries: usize);
    /// The call ends.
    fn finish(&mut self, outputs: &mut Vec<Output>);
}

/// The end of a chain whose main output nobody takes.
pub(crate) struct Nowhere;

impl<T: Value> Emit<T> for Nowhere {
    #[inline(always)]
    fn emit(&mut self, _row: T::Of<'_>, _cx: &mut RowContext) {}
}

impl<T: Value> Tail<T> for Nowhere {
    const FALLIBLE: bool = false;
    fn mark(&mut self) {}
    fn undo(&mut self) {}
}

impl<T: Record> Exit<T> for Nowhere {
    fn open(&mut self, _time_out: bool) {}
    fn begin(&mut self, _entries: usize) {}
    fn finish(&mut self, _outputs: &mut Vec<Output>) {}
}

/// Columns that a port computes beside the rows.
pub(crate) trait Extra<T: Record>: 'static {
    /// Whether `$time` is computed, rather than carried.
    const COMPUTES_TIME: bool = false;

    /// Schema of the computed key.
    fn key_fields(&self) -> Option<Vec<Field>> {
        None
    }

    /// The row's computed time.
    fn time(&self, _row: &T::Of<'_>) -> i64 {
        i64::MIN
    }

    /// Appends the row's key.
    fn push_key(&mut self, _row: &T::Of<'_>) {}

    /// Bytes of the keys.
    fn bytes(&self) -> usize {
        0
    }

    /// Drops keys from that row on.
    fn truncate(&mut self, _rows: usize) {}

    /// Writes the keys.
    fn finish(&mut self, _writer: &mut BlockWriter) {}
}

/// Nothing is computed.
pub(crate) struct NoExtra;

impl<T: Record> Extra<T> for NoExtra {}

/// `$time`, computed by a function of the row.
pub(crate) struct ComputedTime<A> {
    pub(crate) time: A,
    pub(crate) operator: u32,
}

impl<T: Record, A: TimeSource<T>> Extra<T> for ComputedTime<A> {
    const COMPUTES_TIME: bool = true;

    #[inline(always)]
    fn time(&self, row: &T::Of<'_>) -> i64 {
        position::enter(self.operator);
        self.time.time(row)
    }
}

/// The watermark, computed row by row in place of a key, and maybe `$time`.
pub(crate) struct ComputedWatermark<A, W> {
    time: A,
    source: W,
    operator: u32,
    builder: <Option<i64> as Value>::Builder,
}

impl<A, W> ComputedWatermark<A, W> {
    pub(crate) fn new(time: A, source: W, operator: u32) -> Self {
        ComputedWatermark {
            time,
            source,
            operator,
            builder: Default::default(),
        }
    }
}

impl<T: Record, A: TimeSource<T>, W: WatermarkSource<T>> Extra<T> for ComputedWatermark<A, W> {
    const COMPUTES_TIME: bool = A::COMPUTED;

    fn key_fields(&self) -> Option<Vec<Field>> {
        Some(vec![<Option<i64>>::field("watermark")])
    }

    #[inline(always)]
    fn time(&self, row: &T::Of<'_>) -> i64 {
        position::enter(self.operator);
        self.time.time(row)
    }

    #[inline(always)]
    fn push_key(&mut self, row: &T::Of<'_>) {
        position::enter(self.operator);
        <Option<i64> as Value>::push(&mut self.builder, self.source.watermark(row));
    }

    fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    fn truncate(&mut self, rows: usize) {
        self.builder.truncate(rows);
    }

    fn finish(&mut self, writer: &mut BlockWriter) {
        self.builder.finish(writer);
    }
}

/// A key, computed by a selector.
pub(crate) struct ComputedKey<T: Record, S: KeySelector<T>> {
    selector: Rc<S>,
    operator: u32,
    builder: <S::Key as Value>::Builder,
}

impl<T: Record, S: KeySelector<T>> ComputedKey<T, S> {
    pub(crate) fn new(selector: Rc<S>, operator: u32) -> Self {
        ComputedKey {
            selector,
            operator,
            builder: Default::default(),
        }
    }
}

impl<T: Record, S: KeySelector<T>> Extra<T> for ComputedKey<T, S> {
    fn key_fields(&self) -> Option<Vec<Field>> {
        Some(self.selector.fields())
    }

    #[inline(always)]
    fn push_key(&mut self, row: &T::Of<'_>) {
        position::enter(self.operator);
        <S::Key as Value>::push(&mut self.builder, self.selector.key(row));
    }

    fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    fn truncate(&mut self, rows: usize) {
        self.builder.truncate(rows);
    }

    fn finish(&mut self, writer: &mut BlockWriter) {
        self.builder.finish(writer);
    }
}

/// A port: collects rows as columns.
pub(crate) struct Port<T: Record, X> {
    number: u32,
    builder: T::Builder,
    times: <i64 as Value>::Builder,
    extra: X,
    carries_time: bool,
    /// Rows until the next look at the size.
    room: usize,
    /// Full blocks wait for the end of the entry, which may yet be refused.
    holds: bool,
    /// A full block waits.
    is_due: bool,
    marked: usize,
}

impl<T: Record, X: Extra<T>> Port<T, X> {
    pub(crate) fn new(number: u32, extra: X, holds: bool) -> Self {
        Port {
            number,
            builder: T::Builder::default(),
            times: Default::default(),
            extra,
            carries_time: false,
            room: STRIDE,
            holds,
            is_due: false,
            marked: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn append(&mut self, row: T::Of<'_>, time: i64) {
        if X::COMPUTES_TIME {
            <i64 as Value>::push(&mut self.times, self.extra.time(&row));
        } else if self.carries_time {
            <i64 as Value>::push(&mut self.times, time);
        }
        self.extra.push_key(&row);
        T::push(&mut self.builder, row);
        self.room -= 1;
        if self.room == 0 {
            self.look();
        }
    }

    /// Looks at the size, and ships a full block.
    #[cold]
    fn look(&mut self) {
        self.room = STRIDE;
        let bytes = self.builder.bytes() + self.extra.bytes();
        if self.builder.rows() < ROWS_MAX && bytes < BYTES_MAX {
            return;
        }
        if self.holds {
            self.is_due = true;
        } else {
            self.ship();
        }
    }

    #[cold]
    fn ship(&mut self) {
        self.is_due = false;
        let block = self.take_block();
        host::emit_block(self.number, block);
        self.room = STRIDE;
    }

    fn take_block(&mut self) -> types::Block {
        let rows = self.builder.rows();
        let bytes = self.builder.bytes() + self.extra.bytes() + self.times.bytes();
        let mut writer = BlockWriter::with_capacity(bytes + bytes / 16 + 256);
        self.builder.finish(&mut writer);
        if X::COMPUTES_TIME || self.carries_time {
            self.times.finish(&mut writer);
        }
        self.extra.finish(&mut writer);
        to_contract(writer.finish(rows))
    }

    pub(crate) fn rows(&self) -> usize {
        self.builder.rows()
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.builder.truncate(rows);
        self.times.truncate(rows.min(self.times.rows()));
        self.extra.truncate(rows);
        // What was full before the entry has left.
        self.is_due = false;
        self.room = STRIDE;
    }

    pub(crate) fn set_carries_time(&mut self, carries: bool) {
        self.carries_time = carries && !X::COMPUTES_TIME;
    }

    pub(crate) fn set_holds(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// Ships a full block that waited for the end of an entry.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        if self.is_due {
            self.ship();
        }
    }

    pub(crate) fn take_output(&mut self, outputs: &mut Vec<Output>) {
        self.is_due = false;
        self.room = STRIDE;
        if self.builder.rows() > 0 {
            outputs.push(Output {
                port: self.number,
                block: self.take_block(),
            });
        }
    }
}

/// A block as the contract has it.
pub(crate) fn to_contract(block: Block) -> types::Block {
    let (rows, data, ends) = block.into_parts();
    types::Block { rows, data, ends }
}

impl<T: Record, X: Extra<T>> Emit<T> for Port<T, X> {
    #[inline(always)]
    fn emit(&mut self, row: T::Of<'_>, cx: &mut RowContext) {
        self.append(row, cx.time);
    }
}

impl<T: Record, X: Extra<T>> Tail<T> for Port<T, X> {
    const FALLIBLE: bool = false;

    #[inline(always)]
    fn mark(&mut self) {
        self.settle();
        self.marked = self.builder.rows();
    }

    fn undo(&mut self) {
        self.truncate(self.marked);
    }
}

impl<T: Record, X: Extra<T>> Exit<T> for Port<T, X> {
    fn open(&mut self, time_out: bool) {
        self.set_carries_time(time_out);
    }

    fn begin(&mut self, entries: usize) {
        self.builder.reserve(entries.min(ROWS_MAX));
    }

    fn finish(&mut self, outputs: &mut Vec<Output>) {
        self.take_output(outputs);
    }
}
