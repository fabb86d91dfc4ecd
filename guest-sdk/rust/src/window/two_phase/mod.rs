//! Aggregation in two phases, against keys that have most of the rows.
//!
//! ```text
//!   two_phase   rows -> combine, before the exchange -> partial accumulators -> by key: merge, finish
//!   salted      rows -> by key and salt: windows      -> their accumulators   -> by key: merge, finish
//! ```
//!
//! To combine keeps nothing between calls: of each block it makes one partial accumulator for each key and stretch of
//! time. So windows see the same as without it, rows that come late included, only fewer.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

mod phases;

use std::hash::Hash;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use super::functions::{Aggregated, Folded, Most, MostBy, Reduced, RowCount, Summed};
use super::head::{WindowFunction, WindowHead};
use super::stream::WindowedStream;
use super::{Aggregate, Sliding, Tumbling, Window};
use crate::Stream;
use crate::bindings::dataflow as wit;
use crate::keyed::{KeyedStream, Number};
use crate::value::{FieldAt, FieldRef, Owned, Record, Value};

pub use phases::Merged;
use phases::{combined, salted};

/// Windows whose rows are aggregated in two phases: what [`WindowedStream::two_phase`] and [`WindowedStream::salted`] make.
pub struct TwoPhaseWindows<T: Record, K: Owned + Clone> {
    windows: WindowedStream<T, K>,
    /// How many parts a key has in the first phase; none: each block is combined.
    salts: Option<u32>,
}

impl<T: Record, K: Owned + Clone> std::fmt::Debug for TwoPhaseWindows<T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TwoPhaseWindows")
            .field("windows", &self.windows)
            .finish_non_exhaustive()
    }
}

impl<T: Record, K: Owned + Clone> WindowedStream<T, K> {
    /// Combines the rows of each block before they are exchanged by key: what travels is a partial accumulator for each key.
    /// Where few keys have most of the rows, the subtask of such a key then has little to do; where keys rarely meet in a
    /// block, it costs time and gains nothing. Results are the same.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Word { text: String, at: Timestamp }
    /// fn words(words: KeyedStream<Word, String>) {
    ///     words.window(Tumbling::of(Duration::from_secs(60))).two_phase().count().sink("out", Stdout::ndjson());
    /// }
    /// ```
    ///
    /// For tumbling and sliding windows of event time without a trigger or evictor. Late rows may be allowed, but there is no
    /// side output of them: those that are dropped are counted as they come, combined.
    pub fn two_phase(self) -> TwoPhaseWindows<T, K> {
        TwoPhaseWindows {
            windows: self,
            salts: None,
        }
    }

    /// Divides each key into so many parts, whose windows are merged when they fire: a key with most of the rows is then the
    /// work of several subtasks. [`two_phase`](WindowedStream::two_phase) does better where rows of a key come close together;
    /// this helps where an accumulator grows with its rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Word { text: String, at: Timestamp }
    /// fn words(words: KeyedStream<Word, String>) {
    ///     words.window(Tumbling::of(Duration::from_secs(60))).salted(8).count().sink("out", Stdout::ndjson());
    /// }
    /// ```
    ///
    /// For tumbling and sliding windows of event time without a trigger or evictor, and without allowed lateness.
    pub fn salted(self, parts: u32) -> TwoPhaseWindows<T, K> {
        TwoPhaseWindows {
            windows: self,
            salts: Some(parts),
        }
    }
}

/// The stream of results.
type Results<W> = Stream<WindowHead<Merged<W>>>;

impl<T: Record, K: Owned + Clone + Hash + Eq> TwoPhaseWindows<T, K> {
    /// As [`WindowedStream::aggregate`].
    pub fn aggregate<A>(self, aggregate: A) -> Results<Aggregated<A>>
    where
        A: Aggregate<In = T, Key = K>,
    {
        self.begin("window.aggregate", Aggregated(aggregate))
    }

    /// As [`WindowedStream::aggregate_with`].
    pub fn aggregate_with<A, U, C, D, M, F>(
        self,
        create: C,
        add: D,
        merge: M,
        finish: F,
    ) -> Results<Aggregated<Folded<T, K, A, U, C, D, M, F>>>
    where
        A: Owned + Clone,
        U: Record + Owned,
        C: Fn() -> A + 'static,
        D: for<'x, 'a> Fn(&'x mut A, <T as Value>::Of<'a>) + 'static,
        M: Fn(&mut A, &A) + 'static,
        F: Fn(K, Window, &A) -> U + 'static,
    {
        let folded = Folded::new(create, add, merge, finish);
        self.begin("window.aggregate", Aggregated(folded))
    }

    /// As [`WindowedStream::reduce`]. The order of rows of different blocks is not kept: the function must not depend on it.
    pub fn reduce<U, F, G>(self, reduce: F, finish: G) -> Results<Reduced<T, K, U, F, G>>
    where
        T: Owned + Clone,
        U: Record + Owned,
        F: Fn(&mut T, T) + 'static,
        G: Fn(K, Window, &T) -> U + 'static,
    {
        self.begin("window.reduce", Reduced::new(reduce, finish))
    }

    /// As [`WindowedStream::count`].
    pub fn count(self) -> Results<RowCount<T, K>> {
        self.begin("window.count", RowCount { types: PhantomData })
    }

    /// As [`WindowedStream::sum`].
    pub fn sum<N: Number, A>(self, field: FieldRef<T, N, A>) -> Results<Summed<T, K, N, A>>
    where
        A: FieldAt<Row = T, Field = N>,
    {
        let key = PhantomData;
        self.begin("window.sum", Summed { field, key })
    }

    /// As [`WindowedStream::min`].
    pub fn min<V, A>(self, field: FieldRef<T, V, A>) -> Results<Most<T, K, V, A, false>>
    where
        A: FieldAt<Row = T, Field = V>,
        V: Owned + Clone + PartialOrd,
    {
        let key = PhantomData;
        self.begin("window.min", Most { field, key })
    }

    /// As [`WindowedStream::max`].
    pub fn max<V, A>(self, field: FieldRef<T, V, A>) -> Results<Most<T, K, V, A, true>>
    where
        A: FieldAt<Row = T, Field = V>,
        V: Owned + Clone + PartialOrd,
    {
        let key = PhantomData;
        self.begin("window.max", Most { field, key })
    }

    /// As [`WindowedStream::min_by`]. Of rows with equal values it is the first that came of its block; of equals in different
    /// blocks and slices, or of different [parts](WindowedStream::salted), it may be any.
    pub fn min_by<V, A>(self, field: FieldRef<T, V, A>) -> Results<MostBy<T, K, V, A, false>>
    where
        T: Owned + Clone,
        A: FieldAt<Row = T, Field = V>,
        V: Owned + PartialOrd,
    {
        let key = PhantomData;
        self.begin("window.min_by", MostBy { field, key })
    }

    /// As [`WindowedStream::max_by`]; of equals as [`min_by`](TwoPhaseWindows::min_by).
    pub fn max_by<V, A>(self, field: FieldRef<T, V, A>) -> Results<MostBy<T, K, V, A, true>>
    where
        T: Owned + Clone,
        A: FieldAt<Row = T, Field = V>,
        V: Owned + PartialOrd,
    {
        let key = PhantomData;
        self.begin("window.max_by", MostBy { field, key })
    }

    fn begin<W: WindowFunction<In = T, Key = K>>(self, construct: &str, function: W) -> Results<W> {
        let flow = self.windows.keyed.flow.clone();
        let (grid, error) = match self.grid() {
            Ok(grid) => (grid, None),
            Err(error) => (Grid::ANY, Some(error)),
        };
        let (function, lateness, is_global) =
            (Rc::new(function), self.windows.allowed_lateness, self.windows.is_global);
        let merged = Merged {
            function: Rc::clone(&function),
            size: grid.size,
        };
        let (first, second) = match self.salts {
            None => (None, grid.windows(combined(self.windows.keyed, function, grid))),
            Some(salts) => {
                let (operator, partials) = salted(self.windows, function, salts);
                (Some(operator), WindowedStream::new(partials, grid.of_results()))
            }
        };
        let second = WindowedStream {
            allowed_lateness: lateness,
            is_global,
            ..second
        };
        let stream = second.head(construct, merged);
        let mut graph = flow.borrow_mut();
        if let Some(first) = first {
            graph.name_after(first, stream.operator(), "salted");
        }
        if let Some(error) = error {
            graph.error_of(stream.operator(), error);
        }
        drop(graph);
        stream
    }

    /// The grid of the windows, if this can be done with them.
    fn grid(&self) -> Result<Grid, String> {
        let windows = &self.windows;
        let what = if self.salts.is_some() { "salted" } else { "two_phase" };
        if windows.trigger.is_some() || windows.evictor.is_some() {
            return Err(format!("`{what}` does not go with a trigger or an evictor"));
        }
        if windows.late.is_some() {
            return Err(format!("`{what}` has no side output of late rows"));
        }
        if self.salts.is_some() && !windows.allowed_lateness.is_zero() {
            return Err(format!("`{what}` does not go with allowed lateness; `two_phase` does"));
        }
        if self.salts == Some(0) {
            return Err(format!("`{what}` needs at least one part"));
        }
        windows.assigner.check()?;
        match windows.assigner.built_in().host {
            Some(wit::WindowAssigner::Tumbling(tumbling)) => Ok(Grid {
                size: tumbling.size_ms as i64,
                step: tumbling.size_ms as i64,
                offset: tumbling.offset_ms,
            }),
            Some(wit::WindowAssigner::Sliding(sliding)) => Ok(Grid {
                size: sliding.size_ms as i64,
                step: sliding.slide_ms as i64,
                offset: sliding.offset_ms,
            }),
            Some(wit::WindowAssigner::Session(_)) | None => {
                Err(format!("`{what}` is for tumbling and sliding windows of event time"))
            }
        }
    }
}

/// Windows of a size that begin at every step.
#[derive(Clone, Copy)]
struct Grid {
    size: i64,
    step: i64,
    offset: i64,
}

impl Grid {
    /// Of windows that are refused.
    const ANY: Grid = Grid {
        size: 1,
        step: 1,
        offset: 0,
    };

    /// The windows themselves, over partial accumulators.
    fn windows<T: Record, K: Owned + Clone>(self, partials: KeyedStream<T, K>) -> WindowedStream<T, K> {
        let offset = length(self.offset.rem_euclid(self.step));
        if self.size == self.step {
            WindowedStream::new(partials, Tumbling::of(length(self.size)).offset(offset))
        } else {
            WindowedStream::new(
                partials,
                Sliding::of(length(self.size), length(self.step)).offset(offset),
            )
        }
    }

    /// Windows for what the windows put out at their ends: one for each end.
    fn of_results(self) -> Tumbling {
        let offset = self.offset.saturating_add(self.size).rem_euclid(self.step);
        Tumbling::of(length(self.step)).offset(length(offset))
    }

    /// Number of the stretch that a time is in: all of it is in the same windows.
    fn stretch(self, time: i64) -> i64 {
        let (mut length, mut rest) = (self.size, self.step);
        while rest != 0 {
            (length, rest) = (rest, length % rest);
        }
        time.saturating_sub(self.offset).div_euclid(length)
    }
}

fn length(ms: i64) -> Duration {
    Duration::from_millis(ms.max(0) as u64)
}
