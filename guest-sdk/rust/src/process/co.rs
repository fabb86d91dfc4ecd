//! Process functions of two inputs, which share state and timers of a key.

use super::head::{Entries, KeyedRows, ProcessFunction};
use super::{CoContext, KeyedContext, Timer};
use crate::OpenContext;
use crate::bindings::operators::CallError;
use crate::chain::Tail;
use crate::keyed::SharedKey;
use crate::value::{Owned, Record, Value};

/// A function of the rows of a key from two streams, with state and timers that both share.
///
/// The rows of one input come in their order; which input is next is not said. A function that must not miss what the
/// other input has still to say keeps the row, and sets a timer: when one of event time fires, all rows of both inputs up
/// to that time have come, but for late ones.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Order { id: i64, cents: i64 }
///
/// #[derive(Record, Clone)]
/// struct Payment { order: i64 }
///
/// #[derive(Record, Clone)]
/// struct Unpaid { order: i64, cents: i64 }
///
/// /// Tells which orders are not paid within an hour.
/// struct Reminder { open: ValueState<Order>, paid: ValueState<bool> }
///
/// impl CoProcess for Reminder {
///     type First = Order;
///     type Second = Payment;
///     type Key = i64;
///     type Out = Unpaid;
///
///     fn process_first(&mut self, order: Order, cx: &mut CoContext<'_, Self>) {
///         let Some(now) = cx.timestamp() else { return };
///         if !self.paid.get().unwrap_or(false) {
///             self.open.set(order);
///         }
///         cx.set_event_timer(now + Duration::from_secs(3600));
///     }
///
///     fn process_second(&mut self, _payment: Payment, _cx: &mut CoContext<'_, Self>) {
///         self.open.clear();
///         self.paid.set(true);
///     }
///
///     fn on_timer(&mut self, timer: Timer<i64>, cx: &mut CoContext<'_, Self>) {
///         if let Some(order) = self.open.take() {
///             cx.push(Unpaid { order: timer.key, cents: order.cents });
///         }
///         self.paid.clear();
///     }
/// }
///
/// fn unpaid(orders: Stream<Rows<Order>>, payments: Stream<Rows<Payment>>) {
///     orders
///         .key_by(Order::FIELDS.id)
///         .connect(payments.key_by(Payment::FIELDS.order))
///         .process(|setup| Reminder { open: setup.value_state("open"), paid: setup.value_state("paid") })
///         .uid("reminder")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait CoProcess: Sized + 'static {
    /// Rows of the first stream.
    type First: Record;
    /// Rows of the second stream.
    type Second: Record;
    /// What they are keyed by.
    type Key: Owned + Clone;
    /// Rows that it puts out.
    type Out: Record;

    /// Prepares, before the first row. Heavy work belongs here.
    fn open(&mut self, cx: &OpenContext) {
        let _ = cx;
    }

    /// Ends, behind the last row and timer of a job whose input ends. Not where it is stopped, or fails.
    fn close(&mut self) {}

    /// Takes a row of the first stream.
    fn process_first(&mut self, row: <Self::First as Value>::Of<'_>, cx: &mut CoContext<'_, Self>);

    /// Takes a row of the second stream.
    fn process_second(&mut self, row: <Self::Second as Value>::Of<'_>, cx: &mut CoContext<'_, Self>);

    /// A timer of the key is due.
    fn on_timer(&mut self, timer: Timer<Self::Key>, cx: &mut CoContext<'_, Self>) {
        let _ = (timer, cx);
    }
}

/// A [`CoProcess`] with the keys of its rows.
pub struct TwoInputs<P: CoProcess> {
    function: P,
    first: SharedKey<P::First, P::Key>,
    second: SharedKey<P::Second, P::Key>,
}

impl<P: CoProcess> TwoInputs<P> {
    pub(crate) fn new(function: P, first: SharedKey<P::First, P::Key>, second: SharedKey<P::Second, P::Key>) -> Self {
        TwoInputs {
            function,
            first,
            second,
        }
    }
}

impl<P: CoProcess> ProcessFunction for TwoInputs<P> {
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
        match rows.input {
            0 => entries.each_row(rows, &*self.first, |row, cx| function.process_first(row, cx)),
            1 => entries.each_row(rows, &*self.second, |row, cx| function.process_second(row, cx)),
            _ => return rows.unknown_input(),
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer<P::Key>, cx: &mut KeyedContext<'_, P::Key, P::Out>) {
        self.function.on_timer(timer, cx);
    }
}
