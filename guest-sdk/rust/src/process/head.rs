//! The head of a chain that begins with a process function.

use super::context::KeySource;
use super::{KeyedContext, KeyedProcess, States, Timer, TimerKind, UnkeyedContext};
use crate::OpenContext;
use crate::Stream;
use crate::bindings::operators::{CallError, CollectionWrites};
use crate::block::Block;
use crate::chain::{Chain, Decoded, Head, RowContext, Rows, Tail, Work, failure, take_given};
use crate::keyed::{KeyFunction, SharedKey};
use crate::position;
use crate::stream::Out;
use crate::value::{Owned, Record, Value};
use crate::values::Timestamp;

/// What the head of a keyed chain runs: rows of its inputs, and timers.
pub trait ProcessFunction: 'static {
    /// What rows are keyed by.
    type Key: Owned + Clone;
    /// Rows that it puts out.
    type Out: Record;

    /// Whether broadcast rows may ask for every key.
    const APPLIES: bool = false;

    /// Prepares, before the first row.
    fn open(&mut self, cx: &OpenContext);

    /// The chain has run.
    fn close(&mut self);

    /// Takes the rows of a call.
    fn rows<E: Tail<Self::Out>>(&mut self, rows: &KeyedRows<'_>, entries: &mut Entries<'_, E>)
    -> Result<(), CallError>;

    /// It is the key's turn, for a broadcast row has asked for all of them.
    fn apply(&mut self, key: Self::Key, cx: &mut KeyedContext<'_, Self::Key, Self::Out>) {
        let _ = (key, cx);
    }

    /// The input has ended.
    fn finish<E: Tail<Self::Out>>(&mut self, entries: &mut Entries<'_, E>) {
        let _ = entries;
    }

    /// A timer of the key is due. Not where the function can set none.
    fn on_timer(&mut self, timer: Timer<Self::Key>, cx: &mut KeyedContext<'_, Self::Key, Self::Out>) {
        let _ = (timer, cx);
    }
}

/// The rows of a call.
#[derive(Debug, Clone, Copy)]
pub struct KeyedRows<'b> {
    pub(crate) input: u32,
    pub(crate) block: &'b Block,
    /// Of each row's key.
    pub(crate) slots: &'b [u32],
}

impl KeyedRows<'_> {
    /// For a function that has no such input.
    pub(crate) fn unknown_input<T>(&self) -> Result<T, CallError> {
        Err(failure(format!("this chain has no input {}", self.input)))
    }
}

/// Goes through the entries of a call.
#[derive(Debug)]
pub struct Entries<'e, E> {
    operator: u32,
    cx: &'e mut RowContext,
    tail: &'e mut E,
    given: &'e mut u64,
}

impl<E> Entries<'_, E> {
    /// Hands each row to a function.
    #[inline(always)]
    pub(crate) fn each_row<T: Record, K, O: Record>(
        &mut self,
        rows: &KeyedRows<'_>,
        selector: &dyn KeyFunction<T, K>,
        mut take: impl for<'a, 'c> FnMut(T::Of<'a>, &mut KeyedContext<'c, K, O>),
    ) where
        E: Tail<O>,
    {
        let decoded = Decoded::<T>::new(rows.block, self.cx.time_in);
        for (index, &slot) in rows.slots.iter().enumerate() {
            position::set_keyed_entry(index as u32, slot);
            position::enter(self.operator);
            decoded.set_time(index, self.cx);
            let key = RowKey {
                rows: &decoded,
                index,
                selector,
            };
            let mut context = KeyedContext {
                operator: self.operator,
                next: self.tail,
                cx: self.cx,
                key: &key,
                given: self.given,
            };
            take(T::get(&decoded.columns, index), &mut context);
        }
    }

    /// Hands each row to a function that knows no keys.
    #[inline(always)]
    pub(crate) fn each_own_row<T: Record, O: Record>(
        &mut self,
        rows: &KeyedRows<'_>,
        mut take: impl for<'a, 'o, 'x> FnMut(T::Of<'a>, &'x mut Out<'o, O>),
    ) where
        E: Tail<O>,
    {
        let decoded = Decoded::<T>::new(rows.block, self.cx.time_in);
        for (index, &slot) in rows.slots.iter().enumerate() {
            position::set_keyed_entry(index as u32, slot);
            position::enter(self.operator);
            decoded.set_time(index, self.cx);
            let mut out = Out::new(self.operator, self.tail, self.cx);
            take(T::get(&decoded.columns, index), &mut out);
            *self.given += out.given();
        }
    }

    /// Has a function that knows no keys put out its last rows. They have the time of the watermark.
    pub(crate) fn end<O: Record>(&mut self, end: impl for<'o, 'x> FnOnce(&'x mut Out<'o, O>))
    where
        E: Tail<O>,
    {
        position::set_entries(1);
        position::set_keyed_entry(0, 0);
        position::enter(self.operator);
        self.cx.time = self.cx.watermark;
        let mut out = Out::new(self.operator, self.tail, self.cx);
        end(&mut out);
        *self.given += out.given();
    }

    /// Hands each row to a function that is told no key: whose state it may use, and whether it may ask for every key.
    #[inline(always)]
    pub(crate) fn each_broadcast_row<T: Record, O: Record>(
        &mut self,
        rows: &KeyedRows<'_>,
        (slot, applies): (u32, bool),
        mut take: impl for<'a, 'c> FnMut(T::Of<'a>, &mut UnkeyedContext<'c, O>),
    ) where
        E: Tail<O>,
    {
        let decoded = Decoded::<T>::new(rows.block, self.cx.time_in);
        for index in 0..decoded.count {
            position::set_keyed_entry(index as u32, slot);
            position::enter(self.operator);
            decoded.set_time(index, self.cx);
            let mut context = UnkeyedContext::new(self.operator, self.tail, self.cx, self.given, applies);
            take(T::get(&decoded.columns, index), &mut context);
        }
    }

    fn each_timer<F: ProcessFunction>(&mut self, due: &Due<'_>, function: &mut F)
    where
        E: Tail<F::Out>,
    {
        let keys = F::Key::column(&mut due.keys.buffers(), due.keys.rows());
        for (index, (&slot, &time)) in due.slots.iter().zip(due.times).enumerate() {
            position::set_keyed_entry(index as u32, slot);
            position::enter(self.operator);
            self.cx.time = match due.kind {
                Some(TimerKind::EventTime) => time,
                Some(TimerKind::ProcessingTime) | None => self.cx.watermark,
            };
            let key = TimerKey::<F::Key> { keys: &keys, index };
            let mut context = KeyedContext {
                operator: self.operator,
                next: self.tail,
                cx: self.cx,
                key: &key,
                given: self.given,
            };
            match due.kind {
                None => function.apply(key.key(), &mut context),
                Some(kind) => {
                    let timer = Timer {
                        key: key.key(),
                        time: Timestamp::from_millis(time),
                        kind,
                    };
                    function.on_timer(timer, &mut context);
                }
            }
        }
    }
}

/// A [`KeyedProcess`] with the key of its rows.
pub struct OneInput<P: KeyedProcess> {
    function: P,
    selector: SharedKey<P::In, P::Key>,
}

impl<P: KeyedProcess> OneInput<P> {
    pub(crate) fn new(function: P, selector: SharedKey<P::In, P::Key>) -> Self {
        OneInput { function, selector }
    }
}

impl<P: KeyedProcess> ProcessFunction for OneInput<P> {
    type Key = P::Key;
    type Out = P::Out;

    fn open(&mut self, cx: &OpenContext) {
        self.function.open(cx);
    }

    fn close(&mut self) {
        self.function.close();
    }

    #[inline(always)]
    fn rows<E: Tail<P::Out>>(&mut self, rows: &KeyedRows<'_>, entries: &mut Entries<'_, E>) -> Result<(), CallError> {
        let function = &mut self.function;
        entries.each_row(rows, &*self.selector, |row, cx| function.process(row, cx));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer<P::Key>, cx: &mut KeyedContext<'_, P::Key, P::Out>) {
        self.function.on_timer(timer, cx);
    }
}

/// The head of a chain that begins with a process function.
pub struct Processing<F: ProcessFunction> {
    function: F,
    operator: u32,
    states: States,
    given: u64,
}

impl<F: ProcessFunction> std::fmt::Debug for Processing<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processing")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<F: ProcessFunction> Processing<F> {
    pub(crate) fn new(function: F, operator: u32, states: States) -> Self {
        Processing {
            function,
            operator,
            states,
            given: 0,
        }
    }
}

/// Timers that are due.
pub(crate) struct Due<'b> {
    /// None: it is the turn of these keys, for a broadcast row has asked for all.
    pub(crate) kind: Option<TimerKind>,
    pub(crate) slots: &'b [u32],
    pub(crate) times: &'b [i64],
    pub(crate) keys: &'b Block,
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

impl<K: Owned> KeySource<K> for TimerKey<'_, '_, K> {
    fn key(&self) -> K {
        K::get(self.keys, self.index)
    }
}

impl<F: ProcessFunction> Chain for Processing<F> {
    type Out = F::Out;
    const FALLIBLE: bool = false;
    type Refusing<X: Chain> = Rows<X::Out>;

    fn refusing<X: Chain>(stream: Stream<X>) -> Stream<Rows<X::Out>> {
        stream.share()
    }

    type Alone = Self;

    fn alone(stream: Stream<Self>) -> Stream<Self> {
        stream
    }

    #[inline(always)]
    fn run<E: Tail<F::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        match *work {
            Work::Rows { block, slots, input } => {
                self.states.begin_call(slots, block)?;
                let mut entries = Entries {
                    operator: self.operator,
                    cx,
                    tail,
                    given: &mut self.given,
                };
                self.function.rows(&KeyedRows { input, block, slots }, &mut entries)?;
            }
            Work::Timers {
                kind,
                slots,
                times,
                keys,
            } => {
                self.states.begin_call(slots, keys)?;
                let due = Due {
                    kind: TimerKind::of(kind),
                    slots,
                    times,
                    keys,
                };
                let mut entries = Entries {
                    operator: self.operator,
                    cx,
                    tail,
                    given: &mut self.given,
                };
                entries.each_timer(&due, &mut self.function);
            }
            Work::Windows { .. } | Work::Matches { .. } => {
                return Err(failure("this chain has no window and no pattern"));
            }
            Work::Close => {
                let mut entries = Entries {
                    operator: self.operator,
                    cx,
                    tail,
                    given: &mut self.given,
                };
                self.function.finish(&mut entries);
            }
        }
        Ok(())
    }

    fn head(&mut self) -> &mut dyn Head {
        self
    }

    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64 {
        take_given(&mut self.given, emitted)
    }
}

impl<F: ProcessFunction> KeyedHead for Processing<F> {
    fn begin(&mut self, context: &OpenContext) {
        self.function.open(context);
    }

    fn end(&mut self) {
        self.function.close();
    }

    fn operator(&self) -> u32 {
        self.operator
    }

    fn states(&self) -> &States {
        &self.states
    }
}

/// A head whose state is [`States`] of keys.
pub(crate) trait KeyedHead {
    /// Opens its function.
    fn begin(&mut self, context: &OpenContext);

    /// Closes it.
    fn end(&mut self);

    fn operator(&self) -> u32;

    fn states(&self) -> &States;
}

impl<H: KeyedHead> Head for H {
    fn open(&mut self, context: &OpenContext) {
        position::enter(self.operator());
        self.begin(context);
    }

    fn close(&mut self) {
        position::enter(self.operator());
        self.end();
    }

    fn export_state(&mut self, state: u32, slots: &[u32]) -> Result<Block, CallError> {
        self.states().export(state, slots)
    }

    fn import_state(&mut self, state: u32, slots: &[u32], values: &Block) -> Result<(), CallError> {
        self.states().import(state, slots, values)
    }

    fn migrate_state(&mut self, state: u32, migration: u32, old: &Block) -> Result<Block, CallError> {
        self.states().migrate(self.operator(), state, migration, old)
    }

    fn drop_state(&mut self, slots: &[u32]) {
        self.states().drop_slots(slots);
    }

    fn take_touched(&mut self, touched: &mut Vec<u8>, live_bytes: &mut Vec<i64>) {
        self.states().take_touched(touched, live_bytes);
    }

    fn take_writes(&mut self) -> Vec<CollectionWrites> {
        self.states().take_writes()
    }
}
