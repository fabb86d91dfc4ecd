//! The evictors that everybody knows.

use std::marker::PhantomData;
use std::time::Duration;

use super::{Evictor, EvictorContext, TimedRow};
use crate::time::{check_some, millis};
use crate::value::{Owned, Record};
use crate::window::check_threshold;

/// Whether rows leave before or after the window's function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

/// An evictor that acts before the window's function, or after it.
macro_rules! evictor {
    (check: $check:expr; $($bounds:tt)*) => {
        $($bounds)* {
            fn check(&self) -> Result<(), String> {
                $check(self)
            }

            fn evict_before(&self, rows: &mut Vec<TimedRow<T>>, _cx: &EvictorContext) {
                if self.moment == Moment::Before {
                    self.evict(rows);
                }
            }

            fn evict_after(&self, rows: &mut Vec<TimedRow<T>>, _cx: &EvictorContext) {
                if self.moment == Moment::After {
                    self.evict(rows);
                }
            }
        }
    };
}

/// Keeps the last rows, so many of them, in the order in which they came.
///
/// ```
/// # use millrace::prelude::*;
/// let last_ten = CountEvictor::of(10);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct CountEvictor {
    rows: usize,
    moment: Moment,
}

impl CountEvictor {
    /// Keeps that many rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let last_ten = CountEvictor::of(10);
    /// ```
    pub fn of(rows: u64) -> Self {
        CountEvictor {
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
            moment: Moment::Before,
        }
    }

    /// Lets the function see all rows, and takes them out after it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let last_ten = CountEvictor::of(10).after();
    /// ```
    pub fn after(self) -> Self {
        CountEvictor {
            moment: Moment::After,
            ..self
        }
    }

    fn evict<T>(&self, rows: &mut Vec<TimedRow<T>>) {
        rows.drain(..rows.len().saturating_sub(self.rows));
    }
}

evictor!(
    check: |evictor: &CountEvictor| match evictor.rows {
        0 => Err("the number of rows that an evictor leaves is at least 1, not 0".to_owned()),
        1.. => Ok(()),
    };
    impl<T: Record> Evictor<T> for CountEvictor
);

/// Keeps rows that are less than some time older than the latest row of the window.
///
/// ```
/// # use millrace::prelude::*;
/// let last_minute = TimeEvictor::of(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TimeEvictor {
    age: Duration,
    moment: Moment,
}

impl TimeEvictor {
    /// Keeps rows that are less than this older than the latest.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let last_minute = TimeEvictor::of(Duration::from_secs(60));
    /// ```
    pub fn of(age: Duration) -> Self {
        TimeEvictor {
            age,
            moment: Moment::Before,
        }
    }

    /// Lets the function see all rows, and takes them out after it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let last_minute = TimeEvictor::of(Duration::from_secs(60)).after();
    /// ```
    pub fn after(self) -> Self {
        TimeEvictor {
            moment: Moment::After,
            ..self
        }
    }

    fn evict<T>(&self, rows: &mut Vec<TimedRow<T>>) {
        let Some(latest) = rows.iter().map(|row| row.time).max() else {
            return;
        };
        let bound = latest.millis().saturating_sub(millis(self.age) as i64);
        rows.retain(|row| row.time.millis() > bound);
    }
}

evictor!(
    check: |evictor: &TimeEvictor| check_some("the age of rows that an evictor leaves", evictor.age);
    impl<T: Record> Evictor<T> for TimeEvictor
);

/// Keeps rows whose distance to the last row that came is less than a threshold.
///
/// ```
/// # use millrace::prelude::*;
/// # #[derive(Record, Clone)]
/// # struct Reading { celsius: f64 }
/// let alike = DeltaEvictor::of(2.0, |row: &Reading, last: &Reading| (row.celsius - last.celsius).abs());
/// ```
pub struct DeltaEvictor<T, F> {
    threshold: f64,
    delta: F,
    moment: Moment,
    row: PhantomData<fn(T)>,
}

impl<T, F> std::fmt::Debug for DeltaEvictor<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeltaEvictor")
            .field("threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}

impl<T, F: Fn(&T, &T) -> f64 + 'static> DeltaEvictor<T, F> {
    /// Keeps rows for which `delta` of them and the last row is less than `threshold`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alike = DeltaEvictor::of(2.0, |row: &(f64,), last: &(f64,)| (row.0 - last.0).abs());
    /// ```
    pub fn of(threshold: f64, delta: F) -> Self {
        DeltaEvictor {
            threshold,
            delta,
            moment: Moment::Before,
            row: PhantomData,
        }
    }

    /// Lets the function see all rows, and takes them out after it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alike = DeltaEvictor::of(2.0, |row: &(f64,), last: &(f64,)| (row.0 - last.0).abs()).after();
    /// ```
    pub fn after(self) -> Self {
        DeltaEvictor {
            moment: Moment::After,
            ..self
        }
    }

    fn evict(&self, rows: &mut Vec<TimedRow<T>>) {
        let Some((last, before)) = rows.split_last() else {
            return;
        };
        let near = |row: &TimedRow<T>| (self.delta)(&row.row, &last.row) < self.threshold;
        let mut keep: Vec<bool> = before.iter().map(near).collect();
        keep.push(near(last));
        let mut keep = keep.into_iter();
        rows.retain(|_| keep.next().unwrap_or(true));
    }
}

evictor!(
    check: |evictor: &Self| check_threshold(evictor.threshold);
    impl<T, F> Evictor<T> for DeltaEvictor<T, F>
    where
        T: Record + Owned,
        F: Fn(&T, &T) -> f64 + 'static,
);
