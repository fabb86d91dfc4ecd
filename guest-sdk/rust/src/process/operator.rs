//! Process functions of rows without a key, with state of their subtask.

use super::head::{Entries, KeyedRows, ProcessFunction};
use super::{Setup, UnkeyedContext};
use crate::OpenContext;
use crate::bindings::operators::CallError;
use crate::chain::Tail;
use crate::metrics::{Counter, Gauge, Histogram};
use crate::state::{BroadcastState, ListState, State, UnionState, WholeState};
use crate::stream::Out;
use crate::value::{Owned, Record, Value};
use std::collections::BTreeMap;

/// A function of rows without a key that keeps lists from one row to another ("operator state"): what a function with
/// `CheckpointedFunction` is in Flink, given to [`Stream::process_with_state`](crate::Stream::process_with_state).
///
/// Each subtask has lists of its own, which are part of every checkpoint. A job that goes on with as many subtasks gives
/// each what it had; with another number the items are dealt out evenly, neighbours to the same subtask. So no item is lost
/// or doubled. Lists are stored as a whole whenever they have changed, of up to 64 MiB in each subtask: state that grows
/// with the number of keys is better kept by key, in a [`KeyedProcess`](crate::KeyedProcess).
///
/// There is nothing to write at a checkpoint, as in Flink: the lists that are declared are what is stored.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Reading { sensor: i64, value: f64 }
///
/// /// Puts rows out a hundred at a time, the greatest first.
/// struct Sorted { waiting: ListState<Reading> }
///
/// impl StatefulProcess for Sorted {
///     type In = Reading;
///     type Out = Reading;
///
///     fn process(&mut self, row: Reading, out: &mut Out<'_, Reading>) {
///         self.waiting.push(row);
///         if self.waiting.len() == 100 {
///             self.finish(out);
///         }
///     }
///
///     fn finish(&mut self, out: &mut Out<'_, Reading>) {
///         let mut rows = self.waiting.take();
///         rows.sort_by(|a, b| b.value.total_cmp(&a.value));
///         rows.into_iter().for_each(|row| out.push(row));
///     }
/// }
///
/// fn sorted(readings: Stream<Rows<Reading>>) {
///     readings
///         .process_with_state(|setup| Sorted { waiting: setup.list_state("waiting") })
///         .uid("sorted")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait StatefulProcess: Sized + 'static {
    /// Rows that it takes.
    type In: Record;
    /// Rows that it puts out.
    type Out: Record;

    /// Prepares, before the first row. State is not there yet.
    fn open(&mut self, cx: &OpenContext) {
        let _ = cx;
    }

    /// Takes a row.
    fn process(&mut self, row: <Self::In as Value>::Of<'_>, out: &mut Out<'_, Self::Out>);

    /// The input has ended: puts out what waits for more. Not where a job is stopped: it can go on.
    fn finish(&mut self, out: &mut Out<'_, Self::Out>) {
        let _ = out;
    }

    /// Ends, behind that.
    fn close(&mut self) {}
}

/// A function of rows without a key beside a broadcast stream, of which every subtask gets all rows: what
/// `BroadcastProcessFunction` is in Flink.
///
/// What broadcast rows say is kept in a [`BroadcastState`], which is the same in every subtask. Lists of the subtask, as a
/// [`StatefulProcess`] has them, can be used for rows of both streams.
///
/// In which order rows of the two streams come is not said.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Reading { kind: String, value: f64 }
///
/// #[derive(Record, Clone)]
/// struct Limit { kind: String, highest: f64 }
///
/// /// Lets pass what is above the limit of its kind.
/// struct Above { limits: BroadcastState<String, f64> }
///
/// impl BroadcastProcess for Above {
///     type In = Reading;
///     type Broadcast = Limit;
///     type Out = Reading;
///
///     fn process(&mut self, row: Reading, out: &mut Out<'_, Reading>) {
///         if self.limits.get(&row.kind).is_some_and(|highest| row.value > highest) {
///             out.push(row);
///         }
///     }
///
///     fn process_broadcast(&mut self, limit: Limit, cx: &mut UnkeyedContext<'_, Reading>) {
///         cx.writable(&self.limits).insert(limit.kind, limit.highest);
///     }
/// }
///
/// fn above(readings: Stream<Rows<Reading>>, limits: Stream<Rows<Limit>>) {
///     readings
///         .connect_broadcast(limits)
///         .process(|setup| Above { limits: setup.broadcast_state("limits") })
///         .uid("above")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait BroadcastProcess: Sized + 'static {
    /// Rows of which each goes to one subtask.
    type In: Record;
    /// Rows of the broadcast stream.
    type Broadcast: Record;
    /// Rows that it puts out.
    type Out: Record;

    /// Prepares, before the first row. State is not there yet.
    fn open(&mut self, cx: &OpenContext) {
        let _ = cx;
    }

    /// Takes a row. Broadcast state can be read.
    fn process(&mut self, row: <Self::In as Value>::Of<'_>, out: &mut Out<'_, Self::Out>);

    /// Takes a row of the broadcast stream, in each subtask. Broadcast state can be changed.
    fn process_broadcast(&mut self, row: <Self::Broadcast as Value>::Of<'_>, cx: &mut UnkeyedContext<'_, Self::Out>);

    /// The input has ended: puts out what waits for more. Not where a job is stopped: it can go on.
    fn finish(&mut self, out: &mut Out<'_, Self::Out>) {
        let _ = out;
    }

    /// Ends, behind that.
    fn close(&mut self) {}
}

/// Declares the state and metrics of a function of rows without a key.
///
/// A state's name, with the operator's uid, is its identity in savepoints: one that is renamed needs an
/// [alias](OperatorSetup::alias).
#[derive(Debug)]
pub struct OperatorSetup {
    setup: Setup,
}

impl OperatorSetup {
    pub(crate) fn new(setup: Setup) -> Self {
        OperatorSetup { setup }
    }

    pub(crate) fn into_setup(self) -> Setup {
        self.setup
    }

    /// A list of the subtask. Where the number of subtasks changes its items are dealt out anew.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut OperatorSetup) -> ListState<String> { setup.list_state("waiting") }
    /// ```
    pub fn list_state<T: Owned + Clone>(&mut self, name: &str) -> ListState<T>
    where
        Vec<T>: Owned,
    {
        self.setup.list_state(name)
    }

    /// A list of the subtask, beside which it sees the items of all subtasks when the job goes on from what is stored.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut OperatorSetup) -> UnionState<i64> { setup.union_state("seen") }
    /// ```
    pub fn union_state<T: Owned + Clone>(&mut self, name: &str) -> UnionState<T>
    where
        Vec<T>: Owned,
    {
        self.setup.union_state(name)
    }

    /// A map that every subtask has whole. Only a [`BroadcastProcess`] has a use for it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut OperatorSetup) -> BroadcastState<String, i64> { setup.broadcast_state("limits") }
    /// ```
    pub fn broadcast_state<K: Owned + Clone + Ord, V: Owned + Clone>(&mut self, name: &str) -> BroadcastState<K, V>
    where
        BTreeMap<K, V>: Owned,
    {
        self.setup.broadcast_state(name)
    }

    /// Says that a state had another name: see [`Setup::alias`].
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut OperatorSetup) -> ListState<String> {
    ///     let waiting = setup.list_state("waiting");
    ///     setup.alias(&waiting, "buffer");
    ///     waiting
    /// }
    /// ```
    pub fn alias(&mut self, state: &impl State, name: &str) {
        self.setup.alias(state, name);
    }

    /// Converts what an earlier version has left of a state: see [`Setup::migrate`]. The function sees the whole list of a
    /// subtask, before items are dealt out.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut OperatorSetup) -> ListState<String> {
    ///     let waiting = setup.list_state("waiting");
    ///     setup.migrate(&waiting, |old: Vec<i64>| old.iter().map(i64::to_string).collect());
    ///     waiting
    /// }
    /// ```
    pub fn migrate<S: WholeState, Old: Owned>(&mut self, state: &S, migrate: impl Fn(Old) -> S::Stored + 'static) {
        self.setup.migrate(state, migrate);
    }

    /// A number that only grows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut OperatorSetup) -> Counter { setup.counter("late") }
    /// ```
    pub fn counter(&mut self, name: &str) -> Counter {
        self.setup.counter(name)
    }

    /// A number that goes up and down.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut OperatorSetup) -> Gauge { setup.gauge("temperature") }
    /// ```
    pub fn gauge(&mut self, name: &str) -> Gauge {
        self.setup.gauge(name)
    }

    /// A distribution of numbers.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut OperatorSetup) -> Histogram { setup.histogram("size") }
    /// ```
    pub fn histogram(&mut self, name: &str) -> Histogram {
        self.setup.histogram(name)
    }
}

/// A [`StatefulProcess`] as the head of a chain.
#[derive(Debug)]
pub struct OfSubtask<P> {
    function: P,
}

/// A [`BroadcastProcess`] as the head of a chain.
#[derive(Debug)]
pub struct OfSubtaskBeside<P> {
    function: P,
}

impl<P> OfSubtask<P> {
    pub(crate) fn new(function: P) -> Self {
        OfSubtask { function }
    }
}

impl<P> OfSubtaskBeside<P> {
    pub(crate) fn new(function: P) -> Self {
        OfSubtaskBeside { function }
    }
}

impl<P: StatefulProcess> ProcessFunction for OfSubtask<P> {
    type Key = u32;
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
        entries.each_own_row::<P::In, _>(rows, |row, out| function.process(row, out));
        Ok(())
    }

    fn finish<E: Tail<P::Out>>(&mut self, entries: &mut Entries<'_, E>) {
        entries.end(|out| self.function.finish(out));
    }
}

impl<P: BroadcastProcess> ProcessFunction for OfSubtaskBeside<P> {
    type Key = u32;
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
        match rows.input {
            0 => entries.each_own_row::<P::In, _>(rows, |row, out| function.process(row, out)),
            1 => {
                let slot = rows.slots.first().copied().unwrap_or_default();
                entries.each_broadcast_row::<P::Broadcast, _>(rows, (slot, false), |row, cx| {
                    function.process_broadcast(row, cx);
                });
            }
            _ => return rows.unknown_input(),
        }
        Ok(())
    }

    fn finish<E: Tail<P::Out>>(&mut self, entries: &mut Entries<'_, E>) {
        entries.end(|out| self.function.finish(out));
    }
}
