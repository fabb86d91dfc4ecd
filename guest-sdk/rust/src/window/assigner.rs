//! How rows fall into windows: those that everybody knows, and what one's own implement.

use std::marker::PhantomData;
use std::time::Duration;

use super::Window;
use crate::bindings::dataflow as wit;
use crate::process::TimerKind;
use crate::time::{check_some, check_whole, millis};
use crate::value::{Record, Value};
use crate::values::Timestamp;

/// How rows fall into windows: [`Tumbling`], [`Sliding`], [`Session`], [`GlobalWindows`], or a type of your own.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Reading { sensor: i64, celsius: f64, at: Timestamp }
///
/// /// Windows of ten seconds; of one second for what is hot.
/// struct CloserWhenHot;
///
/// impl WindowAssigner<Reading> for CloserWhenHot {
///     fn assign(&self, reading: &Reading, time: Timestamp, windows: &mut Vec<Window>) {
///         let size = if reading.celsius > 90.0 { 1_000 } else { 10_000 };
///         let start = time.millis().div_euclid(size) * size;
///         windows.push(Window { start: Timestamp::from_millis(start), end: Timestamp::from_millis(start + size) });
///     }
/// }
///
/// fn means(readings: KeyedStream<Reading, i64>) {
///     readings.window(CloserWhenHot).max(Reading::FIELDS.celsius).sink("out", Stdout::ndjson());
/// }
/// ```
///
/// It must say the same of the same row: after a failure rows come again.
pub trait WindowAssigner<T: Record>: 'static {
    /// Pushes the windows that a row is in. `time` is the row's by the assigner's [`clock`](WindowAssigner::clock). A row
    /// that is in none is dropped.
    fn assign(&self, row: &T::Of<'_>, time: Timestamp, windows: &mut Vec<Window>);

    /// Whether windows are of event time, as without this, or of processing time.
    fn clock(&self) -> TimerKind {
        TimerKind::EventTime
    }

    /// Whether windows may become one, as sessions do.
    fn merges(&self) -> bool {
        false
    }

    /// Which of these windows of a key, one of them new, become one. Without this it is those that touch, as sessions do.
    /// Windows that stay as they are may be left out. A window must not be in two of the results.
    fn merge(&self, windows: &[Window]) -> Vec<MergedWindow> {
        touching(windows)
    }

    /// Whether there can be windows as its parameters say: asked when the pipeline is built. Without this it is taken for
    /// granted.
    ///
    /// # Errors
    /// Why not. The pipeline is refused with it.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// What the windows are, in words: `tumbling windows of 10s`. A job does not go on from a savepoint or checkpoint whose
    /// windows had another description, because those that are open would be wrong. Without this nothing is compared.
    fn description(&self) -> Option<String> {
        None
    }

    /// What the host can do by itself.
    #[doc(hidden)]
    fn built_in(&self) -> BuiltIn {
        BuiltIn::default()
    }
}

/// Windows that become one.
///
/// ```
/// # use millrace::prelude::*;
/// # use millrace::window::MergedWindow;
/// /// One window for all.
/// fn all(windows: &[Window]) -> Vec<MergedWindow> {
///     let cover = windows.iter().copied().reduce(|one, other| one.cover(&other));
///     cover.map(|window| MergedWindow { window, parts: windows.to_vec() }).into_iter().collect()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedWindow {
    /// What they become.
    pub window: Window,
    /// What they were.
    pub parts: Vec<Window>,
}

/// Windows that overlap or touch become what covers them.
fn touching(windows: &[Window]) -> Vec<MergedWindow> {
    let mut sorted = windows.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<MergedWindow> = Vec::new();
    for window in sorted {
        match merged.last_mut() {
            Some(last) if window.start <= last.window.end => {
                last.window = last.window.cover(&window);
                last.parts.push(window);
            }
            Some(_) | None => merged.push(MergedWindow {
                window,
                parts: vec![window],
            }),
        }
    }
    merged
}

/// What the host knows of an assigner.
#[doc(hidden)]
#[derive(Debug, Clone, Default)]
pub struct BuiltIn {
    /// As the host does it.
    pub(crate) host: Option<wit::WindowAssigner>,
    /// Its windows never end.
    pub(crate) is_endless: bool,
}

fn window(start: i64, size: i64) -> Window {
    Window {
        start: Timestamp::from_millis(start),
        end: Timestamp::from_millis(start.saturating_add(size)),
    }
}

/// Pushes the windows of `size` that begin every `slide` and hold this time, from the last on.
fn sliding(time: Timestamp, size: i64, slide: i64, offset: i64, windows: &mut Vec<Window>) {
    let mut start = (time.millis() - offset).div_euclid(slide) * slide + offset;
    while start > time.millis().saturating_sub(size) {
        windows.push(window(start, size));
        start -= slide;
    }
}

/// Windows of one length, one after the other: each row is in one.
///
/// ```
/// # use millrace::prelude::*;
/// // Days that begin at six in the morning, UTC.
/// let days = Tumbling::of(Duration::from_secs(24 * 3600)).offset(Duration::from_secs(6 * 3600));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Tumbling {
    size: Duration,
    offset: Duration,
    clock: TimerKind,
}

impl Tumbling {
    /// Windows of that length, counted from 1970-01-01 00:00 UTC.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let hours = Tumbling::of(Duration::from_secs(3600));
    /// ```
    pub fn of(size: Duration) -> Self {
        Tumbling {
            size,
            offset: Duration::ZERO,
            clock: TimerKind::EventTime,
        }
    }

    /// Windows that begin that much later.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let from_half_past = Tumbling::of(Duration::from_secs(3600)).offset(Duration::from_secs(1800));
    /// ```
    pub fn offset(self, offset: Duration) -> Self {
        Tumbling { offset, ..self }
    }

    /// Windows of processing time: rows are in the window in which they come.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let minutes = Tumbling::of(Duration::from_secs(60)).processing_time();
    /// ```
    pub fn processing_time(self) -> Self {
        Tumbling {
            clock: TimerKind::ProcessingTime,
            ..self
        }
    }

    /// As the contract writes it.
    fn contract(&self) -> wit::WindowAssigner {
        wit::WindowAssigner::Tumbling(wit::TumblingWindow {
            size_ms: millis(self.size),
            offset_ms: millis(self.offset) as i64,
        })
    }
}

/// Windows of one length, a new one at each slide: each row is in several. Where the slide is longer than the windows, rows
/// between two are in none, and are dropped.
///
/// ```
/// # use millrace::prelude::*;
/// // The last hour, every minute.
/// let hours = Sliding::of(Duration::from_secs(3600), Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Sliding {
    size: Duration,
    slide: Duration,
    offset: Duration,
    clock: TimerKind,
}

impl Sliding {
    /// Windows of length `size`, one every `slide`, counted from 1970-01-01 00:00 UTC.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let hours = Sliding::of(Duration::from_secs(3600), Duration::from_secs(60));
    /// ```
    pub fn of(size: Duration, slide: Duration) -> Self {
        Sliding {
            size,
            slide,
            offset: Duration::ZERO,
            clock: TimerKind::EventTime,
        }
    }

    /// Windows that begin that much later.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let hours = Sliding::of(Duration::from_secs(3600), Duration::from_secs(60)).offset(Duration::from_secs(30));
    /// ```
    pub fn offset(self, offset: Duration) -> Self {
        Sliding { offset, ..self }
    }

    /// Windows of processing time: rows are in the windows in which they come.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let last_minute = Sliding::of(Duration::from_secs(60), Duration::from_secs(1)).processing_time();
    /// ```
    pub fn processing_time(self) -> Self {
        Sliding {
            clock: TimerKind::ProcessingTime,
            ..self
        }
    }

    /// As the contract writes it.
    fn contract(&self) -> wit::WindowAssigner {
        wit::WindowAssigner::Sliding(wit::SlidingWindow {
            size_ms: millis(self.size),
            slide_ms: millis(self.slide),
            offset_ms: millis(self.offset) as i64,
        })
    }
}

/// Windows that last as long as a key's rows come without a gap.
///
/// ```
/// # use millrace::prelude::*;
/// // Visits: a user who does nothing for half an hour has left.
/// let visits = Session::gap(Duration::from_secs(1800));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Session {
    gap: Duration,
    clock: TimerKind,
}

impl Session {
    /// Rows up to that far apart are in one window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let visits = Session::gap(Duration::from_secs(1800));
    /// ```
    pub fn gap(gap: Duration) -> Self {
        Session {
            gap,
            clock: TimerKind::EventTime,
        }
    }

    /// Each row says how long after it the next of its window may come.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64, mobile: bool }
    /// fn visits(clicks: KeyedStream<Click, i64>) {
    ///     let gap = |click: &Click| Duration::from_secs(if click.mobile { 300 } else { 1800 });
    ///     clicks.window(Session::dynamic(gap)).count().sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn dynamic<T, F>(gap: F) -> DynamicSession<T, F>
    where
        T: Record,
        F: for<'r, 'a> Fn(&'r T::Of<'a>) -> Duration + 'static,
    {
        DynamicSession {
            gap,
            clock: TimerKind::EventTime,
            row: PhantomData,
        }
    }

    /// Windows of processing time: that last as long as rows come without a gap by the clock.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let visits = Session::gap(Duration::from_secs(1800)).processing_time();
    /// ```
    pub fn processing_time(self) -> Self {
        Session {
            clock: TimerKind::ProcessingTime,
            ..self
        }
    }

    /// As the contract writes it.
    fn contract(&self) -> wit::WindowAssigner {
        wit::WindowAssigner::Session(wit::SessionWindow {
            gap_ms: millis(self.gap),
        })
    }
}

/// Sessions whose gap the rows say: what [`Session::dynamic`] makes.
pub struct DynamicSession<T, F> {
    gap: F,
    clock: TimerKind,
    row: PhantomData<fn(T)>,
}

impl<T, F> std::fmt::Debug for DynamicSession<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamicSession")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl<T, F> DynamicSession<T, F> {
    /// Windows of processing time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64, gap: i64 }
    /// fn visits(clicks: KeyedStream<Click, i64>) {
    ///     let gap = |click: &Click| Duration::from_secs(click.gap as u64);
    ///     clicks.window(Session::dynamic(gap).processing_time()).count().sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn processing_time(self) -> Self {
        DynamicSession {
            clock: TimerKind::ProcessingTime,
            ..self
        }
    }
}

/// One window for all rows of a key, [`Window::GLOBAL`]. It never ends, so it needs a
/// [trigger](crate::WindowedStream::trigger), and is refused without one.
///
/// ```
/// # use millrace::prelude::*;
/// # #[derive(Record, Clone)]
/// # struct Sale { shop: String, cents: i64 }
/// /// The sum of every hundred sales of a shop.
/// fn hundreds(sales: KeyedStream<Sale, String>) {
///     sales
///         .window(GlobalWindows)
///         .trigger(PurgingTrigger::of(CountTrigger::of(100)))
///         .sum(Sale::FIELDS.cents)
///         .sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct GlobalWindows;

/// What the host does of windows of this clock.
fn built_in(clock: TimerKind, host: wit::WindowAssigner) -> BuiltIn {
    BuiltIn {
        host: (clock == TimerKind::EventTime).then_some(host),
        is_endless: false,
    }
}

/// A row is in as many windows at most.
const WINDOWS_PER_ROW_MAX: u64 = 100_000;

fn check_sliding(size: Duration, slide: Duration, offset: Duration) -> Result<(), String> {
    check_some("a window's size", size)?;
    check_some("a window's slide", slide)?;
    check_whole("a window's offset", offset)?;
    let windows = millis(size) / millis(slide);
    if windows > WINDOWS_PER_ROW_MAX {
        return Err(format!(
            "windows of {size:?} every {slide:?} put each row in {windows} windows, and {WINDOWS_PER_ROW_MAX} are the most"
        ));
    }
    Ok(())
}

/// Windows as the host does them, in words.
pub(crate) fn in_words(windows: &wit::WindowAssigner) -> String {
    let later = |offset_ms: i64, step_ms: u64| match offset_ms.rem_euclid(step_ms.max(1) as i64) {
        0 => String::new(),
        offset_ms => format!(" that begin {:?} later", Duration::from_millis(offset_ms as u64)),
    };
    match windows {
        wit::WindowAssigner::Tumbling(windows) => {
            let size = Duration::from_millis(windows.size_ms);
            format!(
                "tumbling windows of {size:?}{}",
                later(windows.offset_ms, windows.size_ms)
            )
        }
        wit::WindowAssigner::Sliding(windows) if windows.size_ms == windows.slide_ms => {
            in_words(&wit::WindowAssigner::Tumbling(wit::TumblingWindow {
                size_ms: windows.size_ms,
                offset_ms: windows.offset_ms,
            }))
        }
        wit::WindowAssigner::Sliding(windows) => {
            let [size, slide] = [windows.size_ms, windows.slide_ms].map(Duration::from_millis);
            let later = later(windows.offset_ms, windows.slide_ms);
            format!("sliding windows of {size:?} every {slide:?}{later}")
        }
        wit::WindowAssigner::Session(sessions) => {
            format!("sessions with gaps of {:?}", Duration::from_millis(sessions.gap_ms))
        }
    }
}

/// The same by this clock.
fn by_clock(windows: &str, clock: TimerKind) -> Option<String> {
    Some(match clock {
        TimerKind::EventTime => windows.to_owned(),
        TimerKind::ProcessingTime => format!("{windows} by processing time"),
    })
}

impl<T: Record> WindowAssigner<T> for Tumbling {
    fn assign(&self, _row: &T::Of<'_>, time: Timestamp, windows: &mut Vec<Window>) {
        let size = millis(self.size) as i64;
        sliding(time, size, size, millis(self.offset) as i64, windows);
    }

    fn clock(&self) -> TimerKind {
        self.clock
    }

    fn built_in(&self) -> BuiltIn {
        built_in(self.clock, self.contract())
    }

    fn check(&self) -> Result<(), String> {
        check_sliding(self.size, self.size, self.offset)
    }

    fn description(&self) -> Option<String> {
        by_clock(&in_words(&self.contract()), self.clock)
    }
}

impl<T: Record> WindowAssigner<T> for Sliding {
    fn assign(&self, _row: &T::Of<'_>, time: Timestamp, windows: &mut Vec<Window>) {
        let [size, slide, offset] = [self.size, self.slide, self.offset].map(|time| millis(time) as i64);
        sliding(time, size, slide, offset, windows);
    }

    fn clock(&self) -> TimerKind {
        self.clock
    }

    fn built_in(&self) -> BuiltIn {
        built_in(self.clock, self.contract())
    }

    fn check(&self) -> Result<(), String> {
        check_sliding(self.size, self.slide, self.offset)
    }

    fn description(&self) -> Option<String> {
        by_clock(&in_words(&self.contract()), self.clock)
    }
}

impl<T: Record> WindowAssigner<T> for Session {
    fn assign(&self, _row: &T::Of<'_>, time: Timestamp, windows: &mut Vec<Window>) {
        windows.push(window(time.millis(), millis(self.gap) as i64));
    }

    fn clock(&self) -> TimerKind {
        self.clock
    }

    fn merges(&self) -> bool {
        true
    }

    fn built_in(&self) -> BuiltIn {
        built_in(self.clock, self.contract())
    }

    fn check(&self) -> Result<(), String> {
        check_some("a session's gap", self.gap)
    }

    fn description(&self) -> Option<String> {
        by_clock(&in_words(&self.contract()), self.clock)
    }
}

impl<T, F> WindowAssigner<T> for DynamicSession<T, F>
where
    T: Record,
    F: for<'r, 'a> Fn(&'r <T as Value>::Of<'a>) -> Duration + 'static,
{
    fn assign(&self, row: &T::Of<'_>, time: Timestamp, windows: &mut Vec<Window>) {
        let gap = (self.gap)(row);
        // Of a gap that is computed the fraction of a millisecond is not looked at.
        if let Err(error) = check_some("a session's gap", Duration::from_millis(millis(gap))) {
            panic!("{error}");
        }
        windows.push(window(time.millis(), millis(gap) as i64));
    }

    fn clock(&self) -> TimerKind {
        self.clock
    }

    fn merges(&self) -> bool {
        true
    }

    fn description(&self) -> Option<String> {
        by_clock("sessions whose gaps the rows say", self.clock)
    }
}

impl<T: Record> WindowAssigner<T> for GlobalWindows {
    fn assign(&self, _row: &T::Of<'_>, _time: Timestamp, windows: &mut Vec<Window>) {
        windows.push(Window::GLOBAL);
    }

    /// It needs no event time.
    fn clock(&self) -> TimerKind {
        TimerKind::ProcessingTime
    }

    fn description(&self) -> Option<String> {
        Some("a global window".to_owned())
    }

    fn built_in(&self) -> BuiltIn {
        BuiltIn {
            is_endless: true,
            ..BuiltIn::default()
        }
    }
}
