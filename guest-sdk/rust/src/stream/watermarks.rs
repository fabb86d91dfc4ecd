//! Where event time comes from, and how far it has come.

use std::marker::PhantomData;
use std::time::Duration;

use crate::bindings::dataflow as wit;
use crate::schema::DataType;
use crate::time::{check_whole, millis};
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
pub struct Watermarks<T, A, W = Behind> {
    pub(crate) time: A,
    pub(crate) source: W,
    pub(crate) idle_after: Option<Duration>,
    pub(crate) alignment: Option<(String, Duration)>,
    record: PhantomData<fn(T)>,
}

impl<T, A, W> std::fmt::Debug for Watermarks<T, A, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watermarks")
            .field("idle_after", &self.idle_after)
            .field("alignment", &self.alignment)
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

impl<T: Record> Watermarks<T, Ingestion> {
    /// Event time is the host's clock when it takes a row in. It never goes back, so no row is late; but a row that is
    /// read again after a restart gets another time. It comes from rows: without them it stands still, unless it is
    /// [`behind_clock`](Self::behind_clock) by nothing, `Duration::ZERO`, and goes on with the clock.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// fn timed(clicks: Stream<Rows<Click>>) -> Stream<Rows<Click>> {
    ///     clicks.watermarks(Watermarks::ingestion())
    /// }
    /// ```
    pub fn ingestion() -> Self {
        Watermarks::new(Ingestion, Duration::ZERO)
    }
}

impl<T: Record, A: TimeSource<T>> Watermarks<T, A> {
    fn new(time: A, out_of_orderness: Duration) -> Self {
        Watermarks {
            time,
            source: Behind(out_of_orderness),
            idle_after: None,
            alignment: None,
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

    /// Rows say how far event time has come: "punctuated" watermarks. `source` is a field, which may be an `Option`: none
    /// says nothing. Or it is a closure, or a [`WatermarkGenerator`] with a state of its own.
    ///
    /// A watermark says that no row with an earlier or an equal time is expected. It is announced behind the block in
    /// which it comes, so that rows that follow closely are in time still; and it never goes back. A field costs the
    /// pipeline nothing, and each split of a source that this follows directly has watermarks of its own; those that are
    /// computed are of a subtask.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Reading { at: Timestamp, complete_until: Option<Timestamp>, is_last_of_minute: bool }
    /// fn by_field(readings: Stream<Rows<Reading>>) -> Stream<Rows<Reading>> {
    ///     readings.watermarks(Watermarks::monotonic(Reading::FIELDS.at).punctuated(Reading::FIELDS.complete_until))
    /// }
    ///
    /// fn by_closure(readings: Stream<Rows<Reading>>) -> Stream<Rows<Reading>> {
    ///     let mark = |reading: &Reading| reading.is_last_of_minute.then_some(reading.at);
    ///     readings.watermarks(Watermarks::monotonic(Reading::FIELDS.at).punctuated(mark))
    /// }
    /// ```
    pub fn punctuated<W: WatermarkSource<T>>(self, source: W) -> Watermarks<T, A, W> {
        Watermarks {
            time: self.time,
            source,
            idle_after: self.idle_after,
            alignment: self.alignment,
            record: PhantomData,
        }
    }
}

impl<T: Record, A: TimeSource<T>> Watermarks<T, A> {
    /// Event time has come as far as the clock, less this: what Flink's documentation calls a time lag generator. It goes on
    /// five times a second whether rows come or not, so that windows end where nothing comes any more, and no source holds up
    /// the others. Rows that come later than that after their time are late, those of a job that was down among them, as
    /// are all of a recording: it is for live streams whose clocks agree. With
    /// [`monotonic`](Watermarks::monotonic) or [`bounded`](Watermarks::bounded) before it, what those say of the watermark is
    /// replaced.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64, at: Timestamp }
    /// fn timed(clicks: Stream<Rows<Click>>) -> Stream<Rows<Click>> {
    ///     clicks.watermarks(Watermarks::monotonic(Click::FIELDS.at).behind_clock(Duration::from_secs(5)))
    /// }
    /// ```
    pub fn behind_clock(self, lag: Duration) -> Watermarks<T, A, BehindClock> {
        self.punctuated(BehindClock(lag))
    }
}

impl<T: Record, A: TimeSource<T>, W> Watermarks<T, A, W> {
    /// A source that gives no row for that long does not hold up the others.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Click { user: i64, at: Timestamp }
    /// let watermarks = Watermarks::monotonic(Click::FIELDS.at).idle_after(Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn idle_after(self, idle_after: Duration) -> Self {
        Watermarks {
            idle_after: Some(idle_after),
            ..self
        }
    }

    /// Sources of one group do not run ahead of each other, nor do their splits: one whose watermark is more than
    /// `max_drift` ahead of the least in the group is not read until the others have caught up. So a join does not have to
    /// keep what one side has given hours before the other.
    ///
    /// It is for watermarks that follow a source directly, by fields: elsewhere the job is refused. A split that gives
    /// nothing holds the group up unless it is [idle](Self::idle_after).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Click { user: i64, at: Timestamp }
    /// let watermarks = Watermarks::monotonic(Click::FIELDS.at).aligned("clicks and orders", Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn aligned(self, group: &str, max_drift: Duration) -> Self {
        Watermarks {
            alignment: Some((group.to_owned(), max_drift)),
            ..self
        }
    }
}

/// Says how far event time has come, row by row: given to [`Watermarks::punctuated`].
///
/// What it keeps between rows is lost when the job restarts, and each subtask has one of its own; event time does not go
/// back for that. A closure over a row is one that keeps nothing, or what it captures.
///
/// ```
/// use millrace::prelude::*;
/// use millrace::stream::WatermarkGenerator;
///
/// #[derive(Record, Clone)]
/// struct Reading { at: Timestamp, sensor: String }
///
/// /// Rows come out of order by as much as they did in the last minutes.
/// struct Adaptive { latest: i64, behind: i64 }
///
/// impl WatermarkGenerator<Reading> for Adaptive {
///     fn next(&mut self, reading: &Reading) -> Option<Timestamp> {
///         let at = reading.at.millis();
///         self.latest = self.latest.max(at);
///         self.behind = (self.latest - at).max(self.behind * 999 / 1_000);
///         Some(Timestamp::from_millis(self.latest - self.behind - 1))
///     }
/// }
///
/// fn timed(readings: Stream<Rows<Reading>>) -> Stream<Rows<Reading>> {
///     let adaptive = Adaptive { latest: 0, behind: 60_000 };
///     readings.watermarks(Watermarks::monotonic(Reading::FIELDS.at).punctuated(generator(adaptive)))
/// }
/// # use millrace::stream::generator;
/// ```
pub trait WatermarkGenerator<T: Record>: 'static {
    /// After this row no row with an earlier or an equal time is expected; none says nothing.
    fn next(&mut self, row: &T::Of<'_>) -> Option<Timestamp>;
}

/// A [`WatermarkGenerator`], to be given to [`Watermarks::punctuated`]. See there for an example.
pub fn generator<G>(generator: G) -> Generated<G> {
    Generated(generator)
}

/// See [`generator`].
#[derive(Debug)]
pub struct Generated<G>(G);

/// The watermark stays behind the latest row by that much.
#[derive(Debug)]
pub struct Behind(Duration);

/// The watermark stays behind the clock by that much: see [`Watermarks::behind_clock`].
#[derive(Debug)]
pub struct BehindClock(Duration);

/// Event time is the host's clock: see [`Watermarks::ingestion`].
#[derive(Debug)]
pub struct Ingestion;

/// How the watermark follows from rows.
pub trait WatermarkSource<T: Record>: 'static {
    /// Whether the guest computes it.
    const COMPUTED: bool;

    /// As it is declared; an error says why it cannot be.
    fn declared(&self) -> Result<wit::WatermarkSource, String>;

    /// What the row says in ms, if it is computed.
    fn watermark(&mut self, row: &T::Of<'_>) -> Option<i64>;
}

impl<T: Record> WatermarkSource<T> for Behind {
    const COMPUTED: bool = false;

    fn declared(&self) -> Result<wit::WatermarkSource, String> {
        check_whole("how far rows may be out of order", self.0)?;
        Ok(wit::WatermarkSource::Bounded(millis(self.0)))
    }

    fn watermark(&mut self, _row: &T::Of<'_>) -> Option<i64> {
        unreachable!("the host computes it from times")
    }
}

impl<T: Record> WatermarkSource<T> for BehindClock {
    const COMPUTED: bool = false;

    fn declared(&self) -> Result<wit::WatermarkSource, String> {
        check_whole("the lag behind the clock", self.0)?;
        Ok(wit::WatermarkSource::Clock(millis(self.0)))
    }

    fn watermark(&mut self, _row: &T::Of<'_>) -> Option<i64> {
        unreachable!("the host looks at its clock")
    }
}

impl<T, F, A> WatermarkSource<T> for FieldRef<T, F, A>
where
    T: Record,
    A: FieldAt<Row = T, Field = F>,
    F: Value,
{
    const COMPUTED: bool = false;

    fn declared(&self) -> Result<wit::WatermarkSource, String> {
        let name = self.name();
        match F::data_type() {
            DataType::Int64 | DataType::Timestamp { .. } | DataType::Date32 => {
                Ok(wit::WatermarkSource::Field(name.to_owned()))
            }
            other => Err(format!(
                "field `{name}` is {other:?}: a watermark is an i64 in ms, a timestamp or a date, or an Option of those"
            )),
        }
    }

    fn watermark(&mut self, _row: &T::Of<'_>) -> Option<i64> {
        unreachable!("the host reads it from the column")
    }
}

impl<T: Record, M: Millis, F> WatermarkSource<T> for F
where
    F: for<'r, 'a> FnMut(&'r T::Of<'a>) -> Option<M> + 'static,
{
    const COMPUTED: bool = true;

    fn declared(&self) -> Result<wit::WatermarkSource, String> {
        Ok(wit::WatermarkSource::Computed)
    }

    #[inline(always)]
    fn watermark(&mut self, row: &T::Of<'_>) -> Option<i64> {
        self(row).map(Millis::millis)
    }
}

impl<T: Record, G: WatermarkGenerator<T>> WatermarkSource<T> for Generated<G> {
    const COMPUTED: bool = true;

    fn declared(&self) -> Result<wit::WatermarkSource, String> {
        Ok(wit::WatermarkSource::Computed)
    }

    #[inline(always)]
    fn watermark(&mut self, row: &T::Of<'_>) -> Option<i64> {
        self.0.next(row).map(Timestamp::millis)
    }
}

impl<T: Record> TimeSource<T> for Ingestion {
    const COMPUTED: bool = false;

    fn event_time(&self) -> Result<wit::EventTime, String> {
        Ok(wit::EventTime::Ingestion)
    }

    fn time(&self, _row: &T::Of<'_>) -> i64 {
        unreachable!("the host reads its clock")
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
