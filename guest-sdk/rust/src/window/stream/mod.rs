//! The stream after `window`: when its windows fire, what they keep, what is late. What is done with their rows is said in
//! `aggregates` and `processes`.

mod aggregates;
mod processes;

use std::rc::Rc;
use std::time::Duration;

use super::WindowAssigner;
use super::evictor::{Evictor, RowStore, WithEvictor};
use super::trigger::{Life, Trigger, TriggerStore, Triggered};
use crate::OutputTag;
use crate::keyed::KeyedStream;
use crate::value::{Owned, Record};

/// Makes the trigger of windows that live so long.
pub(crate) type MakeTrigger<T> = Box<dyn FnOnce(Life) -> Box<dyn TriggerStore<T>>>;

/// The rows of each key, gathered in windows: what [`KeyedStream::window`] makes.
///
/// A window fires when the watermark reaches its end, or as its [trigger](WindowedStream::trigger) says; the rows that it
/// puts out have its last moment as their time.
pub struct WindowedStream<T: Record, K: Owned + Clone> {
    pub(super) keyed: KeyedStream<T, K>,
    pub(super) assigner: Rc<dyn WindowAssigner<T>>,
    pub(super) allowed_lateness: Duration,
    pub(super) late: Option<&'static str>,
    pub(super) trigger: Option<MakeTrigger<T>>,
    pub(super) evictor: Option<Box<dyn RowStore<T>>>,
    /// All rows in one subtask.
    pub(super) is_global: bool,
}

impl<T: Record, K: Owned + Clone> std::fmt::Debug for WindowedStream<T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowedStream")
            .field("keyed", &self.keyed)
            .finish_non_exhaustive()
    }
}

impl<T: Record, K: Owned + Clone> WindowedStream<T, K> {
    pub(crate) fn new(keyed: KeyedStream<T, K>, assigner: impl WindowAssigner<T>) -> Self {
        WindowedStream {
            keyed,
            assigner: Rc::new(assigner),
            allowed_lateness: Duration::ZERO,
            late: None,
            trigger: None,
            evictor: None,
            is_global: false,
        }
    }

    /// All rows in one subtask.
    pub(crate) fn global(self) -> Self {
        WindowedStream {
            is_global: true,
            ..self
        }
    }

    /// Says when windows fire. It takes the place of the end of the window: a window that is to fire then as well needs a
    /// trigger that says so.
    ///
    /// [`Trigger`] has an example of one of your own. Beside those there are [`CountTrigger`](super::CountTrigger),
    /// [`ContinuousEventTimeTrigger`](super::ContinuousEventTimeTrigger),
    /// [`ContinuousProcessingTimeTrigger`](super::ContinuousProcessingTimeTrigger),
    /// [`DeltaTrigger`](super::DeltaTrigger), [`EventTimeTrigger`](super::EventTimeTrigger),
    /// [`ProcessingTimeTrigger`](super::ProcessingTimeTrigger),
    /// [`ProcessingTimeoutTrigger`](super::ProcessingTimeoutTrigger), and
    /// [`PurgingTrigger`](super::PurgingTrigger), which makes one of them drop the rows of what has fired.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// /// The turnover of the hour so far, at every hundred sales and at its end.
    /// fn turnover(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(3600)))
    ///         .trigger(CountTrigger::of(100).or_at_end())
    ///         .sum(Sale::FIELDS.cents)
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn trigger<G: Trigger<T>>(self, trigger: G) -> Self {
        WindowedStream {
            trigger: Some(Box::new(|life| Box::new(Triggered::new(trigger, life)))),
            ..self
        }
    }

    /// Takes rows out of windows that fire. All rows of a window are kept for that, whatever its function is.
    ///
    /// [`Evictor`] has an example of one of your own. Beside those there are [`CountEvictor`](super::CountEvictor),
    /// [`TimeEvictor`](super::TimeEvictor) and [`DeltaEvictor`](super::DeltaEvictor). If no row is left the function is not
    /// called.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// /// The turnover of the last ten sales, at every sale.
    /// fn turnover(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(GlobalWindows)
    ///         .trigger(CountTrigger::of(1))
    ///         .evictor(CountEvictor::of(10))
    ///         .sum(Sale::FIELDS.cents)
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn evictor<V: Evictor<T>>(self, evictor: V) -> Self
    where
        T: Owned + Clone,
    {
        WindowedStream {
            evictor: Some(Box::new(WithEvictor::new(evictor))),
            ..self
        }
    }

    /// Keeps a window that long after it fired. Rows that come late, but within it, are added, and the window
    /// fires again.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn totals(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .allowed_lateness(Duration::from_secs(600))
    ///         .sum(Sale::FIELDS.cents)
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        WindowedStream {
            allowed_lateness: lateness,
            ..self
        }
    }

    /// Gives rows that come too late for all their windows to a side output, instead of dropping them.
    ///
    /// Those that are dropped are counted: in the column `late` of the report where windows are the host's, in the metric
    /// `late_rows_dropped` where they are the pipeline's.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// static LATE: OutputTag<Sale> = OutputTag::new("late");
    ///
    /// fn totals(sales: KeyedStream<Sale, String>) {
    ///     let totals = sales.window(Tumbling::of(Duration::from_secs(60))).late_output(&LATE).sum(Sale::FIELDS.cents);
    ///     totals.side_output(&LATE).sink("late", Stdout::ndjson());
    ///     totals.sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn late_output(self, tag: &OutputTag<T>) -> Self {
        WindowedStream {
            late: Some(tag.name()),
            ..self
        }
    }
}
