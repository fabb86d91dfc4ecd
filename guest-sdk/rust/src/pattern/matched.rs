//! Matches as functions see them: rows by stage, read in place.

use crate::chain::Decoded;
use crate::keyed::KeyFunction;
use crate::value::{Record, Value};
use crate::values::Timestamp;

/// The rows of a match until now, by stage: what conditions see that look at other rows.
///
/// See [`Pattern::where_iterative`](super::Pattern::where_iterative) for an example.
pub struct Matched<'m, 'b, T: Record> {
    pub(super) rows: &'m Decoded<'b, T>,
    pub(super) members: &'m [u32],
    pub(super) stages: &'m [u32],
    pub(super) names: &'m [String],
}

impl<T: Record> std::fmt::Debug for Matched<'_, '_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matched")
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

impl<'b, T: Record> Matched<'_, 'b, T> {
    /// The rows that a stage took, in order.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::pattern::Match;
    /// # #[derive(Record)]
    /// # struct Bid { item: i64, cents: i64 }
    /// fn total(found: &Match<'_, '_, Bid, i64>) -> i64 {
    ///     found.rows("bids").map(|bid| bid.cents).sum()
    /// }
    /// ```
    pub fn rows(&self, stage: &str) -> impl DoubleEndedIterator<Item = <T as Value>::Of<'b>> {
        let wanted = self.names.iter().position(|name| name == stage);
        let members = self.members.iter().zip(self.stages);
        let members = members.filter(move |(_, stage)| Some(**stage as usize) == wanted);
        members.map(|(&row, _)| self.row(row))
    }

    /// The first row that a stage took; none, if it took none.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::pattern::Match;
    /// # #[derive(Record)]
    /// # struct Bid { item: i64, cents: i64 }
    /// fn opening(found: &Match<'_, '_, Bid, i64>) -> Option<i64> {
    ///     found.first("bids").map(|bid| bid.cents)
    /// }
    /// ```
    pub fn first(&self, stage: &str) -> Option<T::Of<'b>> {
        self.rows(stage).next()
    }

    /// The last row that a stage took; none, if it took none.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::pattern::Match;
    /// # #[derive(Record)]
    /// # struct Bid { item: i64, cents: i64 }
    /// fn highest(found: &Match<'_, '_, Bid, i64>) -> Option<i64> {
    ///     found.last("bids").map(|bid| bid.cents)
    /// }
    /// ```
    pub fn last(&self, stage: &str) -> Option<T::Of<'b>> {
        self.rows(stage).next_back()
    }

    /// All rows in order, with the stages that took them.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::pattern::Match;
    /// # #[derive(Record)]
    /// # struct Bid { item: i64, cents: i64 }
    /// fn shown(found: &Match<'_, '_, Bid, i64>) -> String {
    ///     found.iter().map(|(stage, bid)| format!("{stage} {}\n", bid.cents)).collect()
    /// }
    /// ```
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, <T as Value>::Of<'b>)> {
        let members = self.members.iter().zip(self.stages);
        members.map(|(&row, &stage)| (self.names[stage as usize].as_str(), self.row(row)))
    }

    fn row(&self, row: u32) -> T::Of<'b> {
        T::get(&self.rows.columns, row as usize)
    }
}

/// A match: the rows of a pattern, or of the beginning of one whose time is over.
///
/// It is also a [`Matched`], which has the rows by stage.
///
/// ```
/// # use millrace::prelude::*;
/// use millrace::pattern::Match;
///
/// # #[derive(Record)]
/// # struct Login { user: i64, ok: bool }
/// fn failures(found: &Match<'_, '_, Login, i64>) -> (i64, i64) {
///     (found.key(), found.rows("failure").count() as i64)
/// }
/// ```
pub struct Match<'m, 'b, T: Record, K> {
    pub(super) matched: Matched<'m, 'b, T>,
    pub(super) selector: &'m dyn KeyFunction<T, K>,
    pub(super) time: i64,
}

impl<T: Record, K> std::fmt::Debug for Match<'_, '_, T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Match")
            .field("matched", &self.matched)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

impl<'m, 'b, T: Record, K> std::ops::Deref for Match<'m, 'b, T, K> {
    type Target = Matched<'m, 'b, T>;

    fn deref(&self) -> &Matched<'m, 'b, T> {
        &self.matched
    }
}

impl<T: Record, K> Match<'_, '_, T, K> {
    /// The key of its rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::pattern::Match;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// fn user(found: &Match<'_, '_, Login, i64>) -> i64 {
    ///     found.key()
    /// }
    /// ```
    pub fn key(&self) -> K {
        let first = self.matched.members[0];
        self.selector.key_of(&self.matched.row(first))
    }

    /// When it was complete: the time of its last row, as a rule. Of one whose time is over, when that was. Without event
    /// time these are times of the clock.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::pattern::Match;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// fn at(found: &Match<'_, '_, Login, i64>) -> Timestamp {
    ///     found.time()
    /// }
    /// ```
    pub fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.time)
    }
}
