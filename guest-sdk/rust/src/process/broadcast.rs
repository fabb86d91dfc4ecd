//! Process functions beside a broadcast stream.

use super::head::{Entries, KeyedRows, ProcessFunction};
use super::{KeyedContext, Timer};
use crate::bindings::operators::CallError;
use crate::chain::{Emit, RowContext, Tail, TimerAction};
use crate::keyed::SharedKey;
use crate::position;
use crate::state::{BroadcastState, BroadcastWriter};
use crate::value::{Owned, Record, Value};
use crate::values::Timestamp;
use crate::{OpenContext, OutputTag};

/// What a [`KeyedBroadcastProcess`] sees beside a row that has a key.
pub type ReadOnlyContext<'c, P> =
    KeyedContext<'c, <P as KeyedBroadcastProcess>::Key, <P as KeyedBroadcastProcess>::Out>;

/// What a [`KeyedBroadcastProcess`] sees beside a row of the broadcast stream.
pub type BroadcastContext<'c, P> = UnkeyedContext<'c, <P as KeyedBroadcastProcess>::Out>;

/// A function of the rows of a key beside a broadcast stream, of which every subtask gets all rows.
///
/// What broadcast rows say is kept in a [`BroadcastState`], which is the same in every subtask; rows with a key read it. As
/// broadcast rows have no key, states of keys and timers are out of their reach.
///
/// In which order rows of the two streams come is not said: a rule may come later than rows that it was meant for. Nor
/// do all subtasks see a rule at the same time.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Reading { sensor: i64, kind: String, value: f64 }
///
/// #[derive(Record, Clone)]
/// struct Limit { kind: String, highest: Option<f64> }
///
/// /// Puts out what is above the limit of its kind, once for each sensor in a row.
/// struct Alerts { limits: BroadcastState<String, f64>, above: ValueState<bool> }
///
/// impl KeyedBroadcastProcess for Alerts {
///     type In = Reading;
///     type Broadcast = Limit;
///     type Key = i64;
///     type Out = Reading;
///
///     fn process(&mut self, row: Reading, cx: &mut ReadOnlyContext<'_, Self>) {
///         let above = self.limits.get(&row.kind).is_some_and(|highest| row.value > highest);
///         if above && !self.above.get().unwrap_or(false) {
///             cx.push(row);
///         }
///         self.above.set(above);
///     }
///
///     fn process_broadcast(&mut self, limit: Limit, cx: &mut BroadcastContext<'_, Self>) {
///         let mut limits = cx.writable(&self.limits);
///         match limit.highest {
///             Some(highest) => limits.insert(limit.kind, highest),
///             None => limits.remove(&limit.kind),
///         };
///     }
/// }
///
/// fn alerts(readings: Stream<Rows<Reading>>, limits: Stream<Rows<Limit>>) {
///     readings
///         .key_by(Reading::FIELDS.sensor)
///         .connect_broadcast(limits)
///         .process(|setup| Alerts { limits: setup.broadcast_state("limits"), above: setup.value_state("above") })
///         .uid("alerts")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait KeyedBroadcastProcess: Sized + 'static {
    /// Rows that have a key.
    type In: Record;
    /// Rows of the broadcast stream.
    type Broadcast: Record;
    /// What the former are keyed by.
    type Key: Owned + Clone;
    /// Rows that it puts out.
    type Out: Record;

    /// Whether [`process_broadcast`](Self::process_broadcast) may ask for every key, by
    /// [`apply_to_every_key`](UnkeyedContext::apply_to_every_key).
    const APPLIES: bool = false;

    /// Prepares, before the first row. Heavy work belongs here.
    fn open(&mut self, cx: &OpenContext) {
        let _ = cx;
    }

    /// Ends, behind the last row and timer of a job whose input ends. Not where it is stopped, or fails.
    fn close(&mut self) {}

    /// Takes a row with a key. Broadcast state can be read.
    fn process(&mut self, row: <Self::In as Value>::Of<'_>, cx: &mut ReadOnlyContext<'_, Self>);

    /// Takes a row of the broadcast stream, in each subtask. Broadcast state can be changed, states of keys cannot be used.
    fn process_broadcast(&mut self, row: <Self::Broadcast as Value>::Of<'_>, cx: &mut BroadcastContext<'_, Self>);

    /// It is the turn of a key, because a row of the broadcast stream has asked for all of them: what `applyToKeyedState` is in
    /// Flink. State and timers of the key can be used, and broadcast state be read.
    ///
    /// Every key of the subtask that has a value, list, map, large map or list, or timer is given once, in an order that does not depend on when keys
    /// came. No other row, timer or checkpoint comes before the last, so that what is to be done may be kept in a plain field of the
    /// function. See [`apply_to_every_key`](UnkeyedContext::apply_to_every_key) for an example.
    fn apply(&mut self, key: Self::Key, cx: &mut ReadOnlyContext<'_, Self>) {
        let _ = (key, cx);
    }

    /// A timer of a key is due. Broadcast state can be read.
    fn on_timer(&mut self, timer: Timer<Self::Key>, cx: &mut ReadOnlyContext<'_, Self>) {
        let _ = (timer, cx);
    }
}

/// What a function sees beside a row that has no key, and what it can do. `O` is the type of rows that it puts out.
///
/// See [`KeyedBroadcastProcess`] for an example.
pub struct UnkeyedContext<'c, O: Value> {
    operator: u32,
    next: &'c mut (dyn Emit<O> + 'c),
    cx: &'c mut RowContext,
    given: &'c mut u64,
    applies: bool,
}

impl<O: Value> std::fmt::Debug for UnkeyedContext<'_, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnkeyedContext")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<O: Value> UnkeyedContext<'_, O> {
    /// Changes broadcast state.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn raise<P: KeyedBroadcastProcess>(limits: &BroadcastState<String, i64>, cx: &BroadcastContext<'_, P>) {
    ///     cx.writable(limits).insert("high".into(), 100);
    /// }
    /// ```
    pub fn writable<'s, K: Owned + Clone + Ord, V: Owned + Clone>(
        &self,
        state: &'s BroadcastState<K, V>,
    ) -> BroadcastWriter<'s, K, V> {
        state.writer()
    }

    /// Has [`KeyedBroadcastProcess::apply`] called for every key that holds something, wherever its state is, before anything else
    /// happens. The function says by [`APPLIES`](KeyedBroadcastProcess::APPLIES) that it may ask so.
    ///
    /// ```
    /// use millrace::prelude::*;
    ///
    /// #[derive(Record, Clone)]
    /// struct Sale { shop: i64, cents: i64 }
    ///
    /// #[derive(Record, Clone)]
    /// struct Report { day: i64 }
    ///
    /// /// Sums of all shops, each time somebody asks for them; then from zero again.
    /// struct Sums { sum: ValueState<i64>, asked: BroadcastState<i64, bool> }
    ///
    /// impl KeyedBroadcastProcess for Sums {
    ///     type In = Sale;
    ///     type Broadcast = Report;
    ///     type Key = i64;
    ///     type Out = Sale;
    ///     const APPLIES: bool = true;
    ///
    ///     fn process(&mut self, sale: Sale, _cx: &mut ReadOnlyContext<'_, Self>) {
    ///         self.sum.update(|sum| *sum += sale.cents);
    ///     }
    ///
    ///     fn process_broadcast(&mut self, report: Report, cx: &mut BroadcastContext<'_, Self>) {
    ///         if cx.writable(&self.asked).insert(report.day, true).is_none() {
    ///             cx.apply_to_every_key();
    ///         }
    ///     }
    ///
    ///     fn apply(&mut self, shop: i64, cx: &mut ReadOnlyContext<'_, Self>) {
    ///         if let Some(cents) = self.sum.take() {
    ///             cx.push(Sale { shop, cents });
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Panics
    /// If the function does not say that it may.
    pub fn apply_to_every_key(&mut self) {
        assert!(
            self.applies,
            "`apply_to_every_key` is for a `KeyedBroadcastProcess` with `const APPLIES: bool = true`"
        );
        self.cx.timer(TimerAction::Apply, 0);
    }

    /// Event time of the row, if the stream has one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_timed<P: KeyedBroadcastProcess>(cx: &BroadcastContext<'_, P>) -> bool { cx.timestamp().is_some() }
    /// ```
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.cx.timestamp()
    }

    /// How far event time has come; none before the first watermark.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_late<P: KeyedBroadcastProcess>(cx: &BroadcastContext<'_, P>) -> bool { cx.timestamp() <= cx.watermark() }
    /// ```
    pub fn watermark(&self) -> Option<Timestamp> {
        self.cx.watermark()
    }

    /// Processing time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn seen<P: KeyedBroadcastProcess>(cx: &BroadcastContext<'_, P>) -> i64 { cx.now().millis() }
    /// ```
    pub fn now(&self) -> Timestamp {
        self.cx.now()
    }

    /// Puts a row out: each subtask does.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn tell<P: KeyedBroadcastProcess<Out = (i64,)>>(cx: &mut BroadcastContext<'_, P>) { cx.push((1,)); }
    /// ```
    pub fn push(&mut self, row: O::Of<'_>) {
        *self.given += 1;
        self.next.emit(row, self.cx);
        position::enter(self.operator);
    }

    /// Puts a row out beside the main output: each subtask does. If nobody takes that output, the row is dropped.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// static SEEN: OutputTag<(String,)> = OutputTag::new("seen");
    /// fn tell<P: KeyedBroadcastProcess>(cx: &mut BroadcastContext<'_, P>) { cx.side(&SEEN, ("a rule".into(),)); }
    /// ```
    pub fn side<T: Record>(&mut self, tag: &OutputTag<T>, row: T::Of<'_>) {
        let time = self.cx.time;
        self.cx.sides.push::<T>(self.operator, tag.name(), row, time);
    }
}

impl<'c, O: Value> UnkeyedContext<'c, O> {
    pub(super) fn new(
        operator: u32,
        next: &'c mut (dyn Emit<O> + 'c),
        cx: &'c mut RowContext,
        given: &'c mut u64,
        applies: bool,
    ) -> Self {
        UnkeyedContext {
            operator,
            next,
            cx,
            given,
            applies,
        }
    }
}

/// A [`KeyedBroadcastProcess`] with the key of its rows.
pub struct BesideBroadcast<P: KeyedBroadcastProcess> {
    function: P,
    selector: SharedKey<P::In, P::Key>,
}

impl<P: KeyedBroadcastProcess> BesideBroadcast<P> {
    pub(crate) fn new(function: P, selector: SharedKey<P::In, P::Key>) -> Self {
        BesideBroadcast { function, selector }
    }
}

impl<P: KeyedBroadcastProcess> ProcessFunction for BesideBroadcast<P> {
    type Key = P::Key;
    type Out = P::Out;
    const APPLIES: bool = P::APPLIES;

    fn open(&mut self, cx: &OpenContext) {
        self.function.open(cx);
    }

    fn apply(&mut self, key: P::Key, cx: &mut KeyedContext<'_, P::Key, P::Out>) {
        self.function.apply(key, cx);
    }

    fn close(&mut self) {
        self.function.close();
    }

    #[inline(always)]
    fn rows<E: Tail<P::Out>>(&mut self, rows: &KeyedRows<'_>, entries: &mut Entries<'_, E>) -> Result<(), CallError> {
        let function = &mut self.function;
        match rows.input {
            0 => entries.each_row(rows, &*self.selector, |row, cx| function.process(row, cx)),
            1 => entries.each_broadcast_row::<P::Broadcast, _>(rows, (position::NO_SLOT, P::APPLIES), |row, cx| {
                function.process_broadcast(row, cx);
            }),
            _ => return rows.unknown_input(),
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer<P::Key>, cx: &mut KeyedContext<'_, P::Key, P::Out>) {
        self.function.on_timer(timer, cx);
    }
}
