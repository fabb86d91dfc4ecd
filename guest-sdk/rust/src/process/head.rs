//! The head of a chain that begins with a process function.

use super::context::KeySource;
use super::{Context, KeyedProcess, States, Timer, TimerKind};
use crate::OpenContext;
use crate::Stream;
use crate::bindings::operators::{self, CallError, CollectionWrites};
use crate::block::Block;
use crate::chain::{Chain, Decoded, Head, RowContext, Rows, Tail, Work, check_slots, failure};
use crate::keyed::{KeyFunction, SharedKey};
use crate::position;
use crate::value::{Record, Value};
use crate::values::Timestamp;

/// The head of a chain that begins with a process function.
pub struct Processing<P: KeyedProcess> {
    function: P,
    operator: u32,
    selector: SharedKey<P::In, P::Key>,
    states: States,
    given: u64,
}

impl<P: KeyedProcess> std::fmt::Debug for Processing<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processing")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<P: KeyedProcess> Processing<P> {
    pub(crate) fn new(function: P, operator: u32, selector: SharedKey<P::In, P::Key>, states: States) -> Self {
        Processing {
            function,
            operator,
            selector,
            states,
            given: 0,
        }
    }

    #[inline(always)]
    fn rows<E: Tail<P::Out>>(&mut self, block: &Block, slots: &[u32], cx: &mut RowContext, tail: &mut E) {
        let rows = Decoded::<P::In>::new(block, cx.time_in);
        for (index, &slot) in slots.iter().enumerate() {
            position::set_keyed_entry(index as u32, slot);
            position::enter(self.operator);
            rows.set_time(index, cx);
            let key = RowKey {
                rows: &rows,
                index,
                selector: &*self.selector,
            };
            let mut context = Context {
                operator: self.operator,
                next: tail,
                cx,
                key: &key,
                given: &mut self.given,
            };
            self.function.process(P::In::get(&rows.columns, index), &mut context);
        }
    }

    fn timers<E: Tail<P::Out>>(&mut self, due: &Due<'_>, cx: &mut RowContext, tail: &mut E) {
        let keys = P::Key::column(&mut due.keys.buffers(), due.keys.rows());
        for (index, (&slot, &time)) in due.slots.iter().zip(due.times).enumerate() {
            position::set_keyed_entry(index as u32, slot);
            position::enter(self.operator);
            cx.time = match due.kind {
                TimerKind::EventTime => time,
                TimerKind::ProcessingTime => cx.watermark,
            };
            let key = TimerKey::<P::Key> { keys: &keys, index };
            let timer = Timer {
                key: key.key(),
                time: Timestamp::from_millis(time),
                kind: due.kind,
            };
            let mut context = Context {
                operator: self.operator,
                next: tail,
                cx,
                key: &key,
                given: &mut self.given,
            };
            self.function.on_timer(timer, &mut context);
        }
    }
}

/// Timers that are due.
struct Due<'b> {
    kind: TimerKind,
    slots: &'b [u32],
    times: &'b [i64],
    keys: &'b Block,
}

/// The key of a row, found in the row.
pub(crate) struct RowKey<'r, 'b, T: Record, K> {
    pub(crate) rows: &'r Decoded<'b, T>,
    pub(crate) index: usize,
    pub(crate) selector: &'r dyn KeyFunction<T, K>,
}

impl<T: Record, K> KeySource<K> for RowKey<'_, '_, T, K> {
    fn key(&self) -> K {
        self.selector.key_of(&T::get(&self.rows.columns, self.index))
    }
}

/// The key of a timer, given by the host.
pub(crate) struct TimerKey<'r, 'b, K: Value> {
    pub(crate) keys: &'r K::Column<'b>,
    pub(crate) index: usize,
}

impl<K: crate::Owned> KeySource<K> for TimerKey<'_, '_, K> {
    fn key(&self) -> K {
        K::get(self.keys, self.index)
    }
}

impl<P: KeyedProcess> Chain for Processing<P> {
    type Out = P::Out;
    const FALLIBLE: bool = false;
    type Refusing<X: Chain> = Rows<X::Out>;

    fn refusing<X: Chain>(stream: Stream<X>) -> Stream<Rows<X::Out>> {
        stream.share()
    }

    #[inline(always)]
    fn run<E: Tail<P::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        match *work {
            Work::Rows { block, slots } => {
                check_slots(slots, block)?;
                position::set_entries(slots.len());
                self.states.warm(slots);
                self.rows(block, slots, cx, tail);
            }
            Work::Timers {
                kind,
                slots,
                times,
                keys,
            } => {
                check_slots(slots, keys)?;
                position::set_entries(slots.len());
                self.states.warm(slots);
                let kind = match kind {
                    operators::TimerKind::EventTime => TimerKind::EventTime,
                    operators::TimerKind::ProcessingTime => TimerKind::ProcessingTime,
                };
                let due = Due {
                    kind,
                    slots,
                    times,
                    keys,
                };
                self.timers(&due, cx, tail);
            }
            Work::Windows { .. } => return Err(failure("this chain has no window")),
            Work::Close => {}
        }
        Ok(())
    }

    fn head(&mut self) -> &mut dyn Head {
        self
    }

    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64 {
        let given = std::mem::take(&mut self.given);
        emitted.push(given);
        given
    }
}

impl<P: KeyedProcess> Head for Processing<P> {
    fn open(&mut self, context: &OpenContext) {
        position::enter(self.operator);
        self.function.open(context);
    }

    fn export_state(&mut self, state: u32, slots: &[u32]) -> Result<Block, CallError> {
        self.states.export(state, slots)
    }

    fn import_state(&mut self, state: u32, slots: &[u32], values: &Block) -> Result<(), CallError> {
        self.states.import(state, slots, values)
    }

    fn migrate_state(&mut self, state: u32, migration: u32, old: &Block) -> Result<Block, CallError> {
        self.states.migrate(self.operator, state, migration, old)
    }

    fn drop_state(&mut self, slots: &[u32]) {
        self.states.drop_slots(slots);
    }

    fn take_touched(&mut self, touched: &mut Vec<u8>, live_bytes: &mut Vec<i64>) {
        self.states.take_touched(touched, live_bytes);
    }

    fn take_writes(&mut self) -> Vec<CollectionWrites> {
        self.states.take_writes()
    }
}
