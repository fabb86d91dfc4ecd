//! Where event time comes from, and how far it has come.

use std::marker::PhantomData;
use std::time::Duration;

use crate::bindings::dataflow as wit;
use crate::schema::DataType;
use crate::value::{FieldAt, FieldRef, Record, Value};
use crate::values::Timestamp;

/// Gives each row its event time, and says how far event time has come: given to
/// [`Stream::watermarks`](crate::Stream::watermarks).
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Click { user: i64, at: Timestamp }
///
/// fn timed(clicks: Stream<Rows<Click>>) -> Stream<Rows<Click>> {
///     let second = Duration::from_secs(1);
///     clicks.watermarks(Watermarks::bounded(Click::FIELDS.at, second).idle_after(60 * second))
/// }
/// ```
pub struct Watermarks<T, A> {
    pub(crate) time: A,
    pub(crate) out_of_orderness: Duration,
    pub(crate) idle_after: Option<Duration>,
    record: PhantomData<fn(T)>,
}

impl<T, A> std::fmt::Debug for Watermarks<T, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watermarks")
            .field("out_of_orderness", &self.out_of_orderness)
            .finish_non_exhaustive()
    }
}

impl<T, F, A> Watermarks<T, FieldRef<T, F, A>>
where
    T: Record,
    A: FieldAt<Row = T, Field = F>,
    F: Value,
{
    /// Event time is a field: an `i64` in ms, a timestamp or a [`Date`](crate::values::Date). Rows come at
    /// most that much later than rows with a later time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Click { user: i64, at: Timestamp }
    /// let watermarks = Watermarks::bounded(Click::FIELDS.at, Duration::from_secs(1));
    /// ```
    pub fn bounded(field: FieldRef<T, F, A>, out_of_orderness: Duration) -> Self {
        Watermarks::new(field, out_of_orderness)
    }

    /// Event time is a field, and rows come in its order.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Click { user: i64, at: Timestamp }
    /// let watermarks = Watermarks::monotonic(Click::FIELDS.at);
    /// ```
    pub fn monotonic(field: FieldRef<T, F, A>) -> Self {
        Watermarks::new(field, Duration::ZERO)
    }
}

impl<T: Record, A: TimeSource<T>> Watermarks<T, A> {
    fn new(time: A, out_of_orderness: Duration) -> Self {
        Watermarks {
            time,
            out_of_orderness,
            idle_after: None,
            record: PhantomData,
        }
    }

    /// Event time is computed by a function, as a [`Timestamp`] or an `i64` in ms.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Flight { planned: Timestamp, delay_minutes: i64 }
    /// fn timed(flights: Stream<Rows<Flight>>) -> Stream<Rows<Flight>> {
    ///     let left = |flight: &Flight| flight.planned.millis() + flight.delay_minutes * 60_000;
    ///     flights.watermarks(Watermarks::bounded_by(left, Duration::from_secs(60)))
    /// }
    /// ```
    pub fn bounded_by(time: A, out_of_orderness: Duration) -> Self {
        Watermarks::new(time, out_of_orderness)
    }

    /// A source that gives no row for that long does not hold up the others.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Click { user: i64, at: Timestamp }
    /// let watermarks = Watermarks::monotonic(Click::FIELDS.at).idle_after(Duration::from_secs(60));
    /// ```
    pub fn idle_after(self, idle_after: Duration) -> Self {
        Watermarks {
            idle_after: Some(idle_after),
            ..self
        }
    }
}

/// Where a row's event time comes from: a field, or a function.
pub trait TimeSource<T: Record>: 'static {
    /// Whether the guest computes it.
    const COMPUTED: bool;

    /// The column, if it is one; an error says why it cannot be.
    fn event_time(&self) -> Result<wit::EventTime, String>;

    /// The row's event time in ms, if it is computed.
    fn time(&self, row: &T::Of<'_>) -> i64;
}

impl<T, F, A> TimeSource<T> for FieldRef<T, F, A>
where
    T: Record,
    A: FieldAt<Row = T, Field = F>,
    F: Value,
{
    const COMPUTED: bool = false;

    fn event_time(&self) -> Result<wit::EventTime, String> {
        let name = self.name();
        if F::NULLABLE {
            return Err(format!("field `{name}` may be null: event time may not"));
        }
        match F::data_type() {
            DataType::Int64 | DataType::Timestamp { .. } | DataType::Date32 => {
                Ok(wit::EventTime::Field(name.to_owned()))
            }
            other => Err(format!(
                "field `{name}` is {other:?}: event time is an i64 in ms, a timestamp or a date"
            )),
        }
    }

    fn time(&self, _row: &T::Of<'_>) -> i64 {
        unreachable!("the host reads event time from the column")
    }
}

impl<T: Record, M: Millis, F> TimeSource<T> for F
where
    F: for<'r, 'a> Fn(&'r T::Of<'a>) -> M + 'static,
{
    const COMPUTED: bool = true;

    fn event_time(&self) -> Result<wit::EventTime, String> {
        Ok(wit::EventTime::Computed)
    }

    #[inline(always)]
    fn time(&self, row: &T::Of<'_>) -> i64 {
        self(row).millis()
    }
}

/// A moment in ms since 1970-01-01 UTC.
///
/// ```
/// use millrace::stream::Millis;
/// assert_eq!(millrace::values::Timestamp::from_millis(7).millis(), 7);
/// assert_eq!(Millis::millis(7i64), 7);
/// ```
pub trait Millis {
    /// The number of ms.
    fn millis(self) -> i64;
}

impl Millis for i64 {
    #[inline(always)]
    fn millis(self) -> i64 {
        self
    }
}

impl Millis for Timestamp {
    #[inline(always)]
    fn millis(self) -> i64 {
        Timestamp::millis(self)
    }
}
