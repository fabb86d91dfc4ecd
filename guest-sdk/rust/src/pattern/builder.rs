//! Declaring patterns, stage by stage.

use std::time::Duration;

use super::condition::Condition;
use super::matched::Matched;
use crate::bindings::dataflow as wit;
use crate::value::{Record, Value};

/// Which other matches there are beside one that was found, of the same key.
///
/// With any but `NoSkip` a match waits for those that began before it: they may skip it. So give such patterns a time
/// ([`Pattern::within`]).
///
/// ```
/// # use millrace::prelude::*;
/// # #[derive(Record)]
/// # struct Login { user: i64, ok: bool }
/// /// Five failures, then five others.
/// fn fives() -> Pattern<Login> {
///     Pattern::<Login>::begin("failure").where_(|login| !login.ok).times(5).after_match(AfterMatch::SkipPastLast)
/// }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AfterMatch {
    /// All.
    #[default]
    NoSkip,
    /// None that begins with the same row.
    SkipToNext,
    /// None that begins with one of its rows, or between them.
    SkipPastLast,
    /// None that begins before its first row of this stage.
    SkipToFirst(String),
    /// None that begins before its last row of this stage.
    SkipToLast(String),
}

/// A stage or a group.
pub(super) struct Element<T: Record> {
    pub(super) name: String,
    pub(super) connection: wit::Connection,
    pub(super) condition: Option<Condition<T>>,
    pub(super) least: u32,
    pub(super) most: Option<u32>,
    pub(super) optional: bool,
    pub(super) repeated: wit::Contiguity,
    pub(super) greedy: bool,
    pub(super) until: Option<Condition<T>>,
    pub(super) children: Vec<Element<T>>,
}

/// A sequence of rows to look for. See the [module](super) for an example.
///
/// It begins with [`begin`](Pattern::begin) and goes on, stage by stage, with [`next`](Pattern::next),
/// [`followed_by`](Pattern::followed_by), [`followed_by_any`](Pattern::followed_by_any), and with what must not come
/// between. What else there is says something of the stage or group before it.
#[must_use = "a pattern is looked for by `KeyedStream::pattern`"]
pub struct Pattern<T: Record> {
    pub(super) elements: Vec<Element<T>>,
    pub(super) within: Option<Duration>,
    pub(super) within_gap: Option<Duration>,
    pub(super) after_match: AfterMatch,
    pub(super) errors: Vec<String>,
}

impl<T: Record> std::fmt::Debug for Pattern<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.elements.iter().map(|element| &element.name);
        f.debug_list().entries(names).finish()
    }
}

impl<T: Record> Pattern<T> {
    /// A pattern that begins with this stage. Any row may be the first that satisfies its conditions.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern = Pattern::<Login>::begin("failure").where_(|login| !login.ok);
    /// ```
    pub fn begin(stage: &str) -> Self {
        let empty = Pattern {
            elements: Vec::new(),
            within: None,
            within_gap: None,
            after_match: AfterMatch::NoSkip,
            errors: Vec::new(),
        };
        empty.add(stage, wit::Connection::Next, Vec::new())
    }

    /// A pattern that begins with a group: a pattern that is repeated or optional as a whole.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let attempt = Pattern::<Login>::begin("failure").where_(|login| !login.ok).next("success").where_(|login| login.ok);
    /// let attempts = Pattern::begin_group(attempt).times(3);
    /// ```
    pub fn begin_group(group: Pattern<T>) -> Self {
        let empty = Pattern {
            elements: Vec::new(),
            within: None,
            within_gap: None,
            after_match: AfterMatch::NoSkip,
            errors: Vec::new(),
        };
        empty.add_group(wit::Connection::Next, group)
    }

    /// The very next row of the key. (Strict contiguity.)
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern = Pattern::<Login>::begin("failure").where_(|login| !login.ok).next("success").where_(|login| login.ok);
    /// ```
    pub fn next(self, stage: &str) -> Self {
        self.add(stage, wit::Connection::Next, Vec::new())
    }

    /// The next row that satisfies the conditions, whatever lies between. (Relaxed contiguity.)
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, paid: bool }
    /// let pattern = Pattern::<Step>::begin("order").followed_by("paid").where_(|step| step.paid);
    /// ```
    pub fn followed_by(self, stage: &str) -> Self {
        self.add(stage, wit::Connection::FollowedBy, Vec::new())
    }

    /// Any later row that satisfies the conditions: there may be several matches. (Non-deterministic relaxed contiguity.)
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, paid: bool }
    /// let pattern = Pattern::<Step>::begin("order").followed_by_any("paid").where_(|step| step.paid);
    /// ```
    pub fn followed_by_any(self, stage: &str) -> Self {
        self.add(stage, wit::Connection::FollowedByAny, Vec::new())
    }

    /// The very next row does not satisfy the conditions.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, paid: bool }
    /// let pattern = Pattern::<Step>::begin("order").not_next("paid").where_(|step| step.paid);
    /// ```
    pub fn not_next(self, stage: &str) -> Self {
        self.add(stage, wit::Connection::NotNext, Vec::new())
    }

    /// No row that satisfies the conditions comes before that of the next stage. At the end of a pattern: before its
    /// time is over, so that it needs [`within`](Pattern::within).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, paid: bool }
    /// /// Orders that are not paid within an hour.
    /// fn unpaid() -> Pattern<Step> {
    ///     Pattern::<Step>::begin("order")
    ///         .where_(|step| !step.paid)
    ///         .not_followed_by("paid")
    ///         .where_(|step| step.paid)
    ///         .within(Duration::from_secs(3600))
    /// }
    /// ```
    pub fn not_followed_by(self, stage: &str) -> Self {
        self.add(stage, wit::Connection::NotFollowedBy, Vec::new())
    }

    /// Like [`next`](Pattern::next), for the first row of a group.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, paid: bool }
    /// let retry = Pattern::<Step>::begin("tried").next("failed").where_(|step| !step.paid);
    /// let pattern = Pattern::<Step>::begin("order").next_group(retry).one_or_more();
    /// ```
    pub fn next_group(self, group: Pattern<T>) -> Self {
        self.add_group(wit::Connection::Next, group)
    }

    /// Like [`followed_by`](Pattern::followed_by), for the first row of a group.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, paid: bool }
    /// let retry = Pattern::<Step>::begin("tried").next("failed").where_(|step| !step.paid);
    /// let pattern = Pattern::<Step>::begin("order").followed_by_group(retry).times(2);
    /// ```
    pub fn followed_by_group(self, group: Pattern<T>) -> Self {
        self.add_group(wit::Connection::FollowedBy, group)
    }

    /// Like [`followed_by_any`](Pattern::followed_by_any), for the first row of a group.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, paid: bool }
    /// let retry = Pattern::<Step>::begin("tried").next("failed").where_(|step| !step.paid);
    /// let pattern = Pattern::<Step>::begin("order").followed_by_any_group(retry).optional();
    /// ```
    pub fn followed_by_any_group(self, group: Pattern<T>) -> Self {
        self.add_group(wit::Connection::FollowedByAny, group)
    }

    /// The row satisfies this as well. The function sees it in place: nothing is copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login<'a> { user: &'a str, ok: bool }
    /// let pattern = Pattern::<Login>::begin("failure").where_(|login| !login.ok).where_(|login| login.user != "probe");
    /// ```
    pub fn where_<F>(self, condition: F) -> Self
    where
        F: for<'r, 'a> Fn(&'r <T as Value>::Of<'a>) -> bool + 'static,
    {
        self.and(Condition::Simple(Box::new(condition)))
    }

    /// Or it satisfies this instead of all that was said of the stage before.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login<'a> { user: &'a str, ok: bool }
    /// let pattern = Pattern::<Login>::begin("odd").where_(|login| !login.ok).or(|login| login.user == "root");
    /// ```
    pub fn or<F>(self, condition: F) -> Self
    where
        F: for<'r, 'a> Fn(&'r <T as Value>::Of<'a>) -> bool + 'static,
    {
        self.condition(Condition::Simple(Box::new(condition)), Condition::Or)
    }

    /// The row satisfies this as well, beside the rows that the match has before it. (Flink's iterative condition.)
    ///
    /// It is asked for each match that the row could join, if the row satisfies the other conditions: say first with
    /// [`where_`](Pattern::where_) what can be said of the row alone.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Price { share: i64, cents: i64 }
    /// let rising = Pattern::<Price>::begin("low")
    ///     .next("higher")
    ///     .where_iterative(|price, before| before.last("low").is_some_and(|low| low.cents < price.cents));
    /// ```
    pub fn where_iterative<F>(self, condition: F) -> Self
    where
        F: for<'r, 'a, 'm, 'b> Fn(&'r <T as Value>::Of<'a>, &'r Matched<'m, 'b, T>) -> bool + 'static,
    {
        self.and(Condition::Iterative(Box::new(condition)))
    }

    /// Or it satisfies this, beside the rows that the match has before it, instead of all that was said of the stage before.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Price { share: i64, cents: i64 }
    /// let low = Pattern::<Price>::begin("first")
    ///     .next("low")
    ///     .where_(|price| price.cents < 100)
    ///     .or_iterative(|price, before| before.first("first").is_some_and(|first| 2 * price.cents < first.cents));
    /// ```
    pub fn or_iterative<F>(self, condition: F) -> Self
    where
        F: for<'r, 'a, 'm, 'b> Fn(&'r <T as Value>::Of<'a>, &'r Matched<'m, 'b, T>) -> bool + 'static,
    {
        self.condition(Condition::Iterative(Box::new(condition)), Condition::Or)
    }

    /// The stage or group may be missing.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, paid: bool }
    /// let pattern = Pattern::<Step>::begin("order").next("reminder").where_(|step| !step.paid).optional().next("paid");
    /// ```
    pub fn optional(self) -> Self {
        self.change(|element| element.optional = true)
    }

    /// It comes so many times.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern = Pattern::<Login>::begin("failures").where_(|login| !login.ok).times(3);
    /// ```
    pub fn times(self, times: u32) -> Self {
        self.times_between(times, times)
    }

    /// It comes from `least` to `most` times. From none says that it is [`optional`](Pattern::optional), too.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern = Pattern::<Login>::begin("failures").where_(|login| !login.ok).times_between(3, 5).greedy();
    /// ```
    pub fn times_between(self, least: u32, most: u32) -> Self {
        self.repeat(least, Some(most))
    }

    /// It comes at least so many times. None says that it is [`optional`](Pattern::optional), too.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern = Pattern::<Login>::begin("failures").where_(|login| !login.ok).times_or_more(3);
    /// ```
    pub fn times_or_more(self, least: u32) -> Self {
        self.repeat(least, None)
    }

    fn repeat(self, least: u32, most: Option<u32>) -> Self {
        self.change(|element| {
            (element.least, element.most) = (least.max(1), most);
            element.optional |= least == 0;
        })
    }

    /// It comes at least once. With [`optional`](Pattern::optional): any number of times.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern = Pattern::<Login>::begin("failures").where_(|login| !login.ok).one_or_more();
    /// ```
    pub fn one_or_more(self) -> Self {
        self.times_or_more(1)
    }

    /// It takes as many repetitions as it can: no row that it could take is left out or taken by what follows. With
    /// [`optional`](Pattern::optional) it is missing only if no row comes that it could take.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern =
    ///     Pattern::<Login>::begin("failures").where_(|login| !login.ok).one_or_more().greedy().next("anything");
    /// ```
    pub fn greedy(self) -> Self {
        self.change(|element| element.greedy = true)
    }

    /// Its repetitions follow each other without anything between. Otherwise other rows may lie between them.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let in_a_row = Pattern::<Login>::begin("failures").where_(|login| !login.ok).times(3).consecutive();
    /// ```
    pub fn consecutive(self) -> Self {
        self.change(|element| element.repeated = wit::Contiguity::Strict)
    }

    /// Its repetitions are any of the rows that satisfy the conditions, in order, not only those that follow each other.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let any_three = Pattern::<Login>::begin("failures").where_(|login| !login.ok).times(3).allow_combinations();
    /// ```
    pub fn allow_combinations(self) -> Self {
        self.change(|element| element.repeated = wit::Contiguity::Any)
    }

    /// A row that satisfies this ends its repetitions, even before the first: neither it nor a later row is one. For
    /// [`one_or_more`](Pattern::one_or_more) and [`times_or_more`](Pattern::times_or_more), which have one such condition at most.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern =
    ///     Pattern::<Login>::begin("failures").where_(|login| !login.ok).one_or_more().until(|login| login.ok);
    /// ```
    pub fn until<F>(self, condition: F) -> Self
    where
        F: for<'r, 'a> Fn(&'r <T as Value>::Of<'a>) -> bool + 'static,
    {
        self.end_repetitions(Condition::Simple(Box::new(condition)))
    }

    /// The same of a row beside those that the match has before it, repetitions among them.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Price { share: i64, cents: i64 }
    /// let rising = Pattern::<Price>::begin("prices")
    ///     .one_or_more()
    ///     .until_iterative(|price, before| before.last("prices").is_some_and(|last| price.cents <= last.cents));
    /// ```
    pub fn until_iterative<F>(self, condition: F) -> Self
    where
        F: for<'r, 'a, 'm, 'b> Fn(&'r <T as Value>::Of<'a>, &'r Matched<'m, 'b, T>) -> bool + 'static,
    {
        self.end_repetitions(Condition::Iterative(Box::new(condition)))
    }

    /// A match takes less time than this, from its first row on. Matches that have begun and are not complete by then
    /// are forgotten, or go to [`PatternStream::timed_out`](super::PatternStream::timed_out).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern = Pattern::<Login>::begin("failures").times(3).within(Duration::from_secs(60));
    /// ```
    pub fn within(self, time: Duration) -> Self {
        Pattern {
            within: Some(time),
            ..self
        }
    }

    /// From each of its rows to the next a match takes less than this, however long it takes as a whole. It may be asked for
    /// beside [`within`](Pattern::within); what becomes of matches that take longer is the same.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// let pattern = Pattern::<Login>::begin("failures").times_or_more(3).within_gap(Duration::from_secs(5));
    /// ```
    pub fn within_gap(self, time: Duration) -> Self {
        Pattern {
            within_gap: Some(time),
            ..self
        }
    }

    /// Says which other matches there are beside one that was found. Otherwise all.
    ///
    /// See [`AfterMatch`] for an example.
    pub fn after_match(self, after_match: AfterMatch) -> Self {
        Pattern { after_match, ..self }
    }

    fn add(mut self, name: &str, connection: wit::Connection, children: Vec<Element<T>>) -> Self {
        self.elements.push(Element {
            name: name.to_owned(),
            connection,
            condition: None,
            least: 1,
            most: Some(1),
            optional: false,
            repeated: wit::Contiguity::Relaxed,
            greedy: false,
            until: None,
            children,
        });
        self
    }

    fn add_group(mut self, connection: wit::Connection, group: Pattern<T>) -> Self {
        if group.within.is_some() || group.within_gap.is_some() || group.after_match != AfterMatch::NoSkip {
            self.errors.push(
                "`within`, `within_gap` and `after_match` belong to a whole pattern, not to a group of one".to_owned(),
            );
        }
        self.errors.extend(group.errors);
        let name = group.elements.iter().map(|element| element.name.as_str());
        let name = name.collect::<Vec<_>>().join(", ");
        self.add(&name, connection, group.elements)
    }

    fn change(mut self, change: impl FnOnce(&mut Element<T>)) -> Self {
        if let Some(last) = self.elements.last_mut() {
            change(last);
        }
        self
    }

    fn end_repetitions(mut self, condition: Condition<T>) -> Self {
        let Some(last) = self.elements.last_mut() else {
            return self;
        };
        if last.until.replace(condition).is_some() {
            let error = format!("`{}` has two `until`: join their conditions by `||`", last.name);
            self.errors.push(error);
        }
        self
    }

    fn and(self, condition: Condition<T>) -> Self {
        self.condition(condition, Condition::And)
    }

    fn condition(
        mut self,
        condition: Condition<T>,
        join: impl FnOnce(Box<Condition<T>>, Box<Condition<T>>) -> Condition<T>,
    ) -> Self {
        let Some(last) = self.elements.last_mut() else {
            return self;
        };
        if !last.children.is_empty() {
            let error = format!("the group `{}` has no condition; its stages have", last.name);
            self.errors.push(error);
            return self;
        }
        last.condition = Some(match last.condition.take() {
            None => condition,
            Some(before) => join(Box::new(before), Box::new(condition)),
        });
        self
    }
}
