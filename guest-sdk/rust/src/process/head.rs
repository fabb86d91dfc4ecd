//! The head of a chain that begins with a process function.

use super::context::KeySource;
use super::setup::DeclaredState;
use super::{Context, KeyedProcess, StateCell, Timer, TimerKind};
use crate::OpenContext;
use crate::Stream;
use crate::bindings::operators::{self, CallError, CollectionWrites};
use crate::block::Block;
use crate::chain::{Chain, Decoded, Head, RowContext, Rows, Tail, Work, check_slots, failure};
use crate::keyed::{KeyFunction, SharedKey};
use crate::position;
use crate::state::cell::ErasedState;
use crate::value::{Record, Value};
use crate::values::Timestamp;

/// The head of a chain that begins with a process function.
pub struct Processing<P: KeyedProcess> {
    function: P,
    operator: u32,
    selector: SharedKey<P::In, P::Key>,
    states: Vec<DeclaredState>,
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
    pub(crate) fn new(
        function: P,
        operator: u32,
        selector: SharedKey<P::In, P::Key>,
        states: Vec<DeclaredState>,
    ) -> Self {
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

    fn warm(&self, slots: &[u32]) {
        self.kept().for_each(|state| state.warm(slots));
    }

    /// The states whose values are here.
    fn kept(&self) -> impl Iterator<Item = &dyn ErasedState> {
        self.states.iter().filter_map(|state| match &state.cell {
            StateCell::Slots(cell) => Some(cell.as_ref()),
            StateCell::Host(_) => None,
        })
    }

    fn kept_state(&self, state: u32) -> Result<&dyn ErasedState, CallError> {
        match &self.state(state)?.cell {
            StateCell::Slots(cell) => Ok(cell.as_ref()),
            StateCell::Host(_) => Err(failure(format!("state {state} is large: the host has its values"))),
        }
    }

    fn state(&self, state: u32) -> Result<&DeclaredState, CallError> {
        let unknown = || failure(format!("there is no state {state}"));
        self.states.get(state as usize).ok_or_else(unknown)
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
struct RowKey<'r, 'b, T: Record, K> {
    rows: &'r Decoded<'b, T>,
    index: usize,
    selector: &'r dyn KeyFunction<T, K>,
}

impl<T: Record, K> KeySource<K> for RowKey<'_, '_, T, K> {
    fn key(&self) -> K {
        self.selector.key_of(&T::get(&self.rows.columns, self.index))
    }
}

/// The key of a timer, given by the host.
struct TimerKey<'r, 'b, K: Value> {
    keys: &'r K::Column<'b>,
    index: usize,
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
                self.warm(slots);
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
                self.warm(slots);
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
        Ok(self.kept_state(state)?.export(slots))
    }

    fn import_state(&mut self, state: u32, slots: &[u32], values: &Block) -> Result<(), CallError> {
        check_slots(slots, values)?;
        self.kept_state(state)?.import(slots, values);
        Ok(())
    }

    fn migrate_state(&mut self, state: u32, migration: u32, old: &Block) -> Result<Block, CallError> {
        let unknown = || failure(format!("state {state} has no migration {migration}"));
        position::enter(self.operator);
        let migration = self
            .state(state)?
            .migrations
            .get(migration as usize)
            .ok_or_else(unknown)?;
        let migrated = (migration.migrate)(old);
        position::leave();
        Ok(migrated)
    }

    fn drop_state(&mut self, slots: &[u32]) {
        self.kept().for_each(|state| state.drop_slots(slots));
    }

    fn take_touched(&mut self, touched: &mut Vec<u8>, live_bytes: &mut Vec<i64>) {
        let entries = position::entries();
        let flags: Vec<Vec<u8>> = self.kept().map(ErasedState::take_flags).collect();
        if flags.iter().any(|flags| !flags.is_empty()) {
            for flags in &flags {
                touched.extend_from_slice(flags);
                touched.resize(touched.len() + entries - flags.len(), 0);
            }
        }
        let changes: Vec<i64> = self.kept().map(ErasedState::take_live_bytes).collect();
        if changes.iter().any(|&change| change != 0) {
            *live_bytes = changes;
        }
    }

    fn take_writes(&mut self) -> Vec<CollectionWrites> {
        let collections = self.states.iter().filter_map(|state| match &state.cell {
            StateCell::Slots(_) => None,
            StateCell::Host(cell) => cell.take_writes(),
        });
        collections.collect()
    }
}
