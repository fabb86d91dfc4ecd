//! The head of a chain that begins with a pattern: conditions of rows, and what is made of matches.

use std::marker::PhantomData;

use super::condition::Condition;
use super::matched::{Match, Matched};
use crate::bindings::operators::{CallError, Candidates, MatchPaths, Matches, RowConditions};
use crate::block::Block;
use crate::chain::{Chain, Decoded, Emit, Head, RowContext, Rows, Tail, Work, failure, take_given};
use crate::keyed::SharedKey;
use crate::value::{Owned, Record, Value};
use crate::{Out, Stream, position};

/// Puts out a row of a match whose time is over.
pub(super) type TimedOut<T, K> = Box<dyn for<'x, 'm, 'b> Fn(u32, &'x Match<'m, 'b, T, K>, &'x mut RowContext)>;

/// Appends what a row of equal time is ordered by, as a [`SortKey`](super::SortKey).
pub(super) type Order<T> = Box<dyn for<'r, 'a> Fn(&'r <T as Value>::Of<'a>, &'r mut Vec<u8>)>;

/// What is made of a match.
pub trait MatchFunction: 'static {
    /// Rows of the pattern.
    type In: Record;
    /// What they are keyed by.
    type Key: Owned + Clone;
    /// Rows that it puts out.
    type Out: Record;

    /// Puts out rows, and says how many.
    fn finish<E: Emit<Self::Out>>(
        &self,
        operator: u32,
        found: &Match<'_, '_, Self::In, Self::Key>,
        cx: &mut RowContext,
        next: &mut E,
    ) -> u64;
}

/// One row of each match.
pub struct Select<T, K, U, F> {
    pub(super) function: F,
    pub(super) types: PhantomData<fn(T, K) -> U>,
}

impl<T, K, U, F> std::fmt::Debug for Select<T, K, U, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Select")
    }
}

impl<T, K, U, F> MatchFunction for Select<T, K, U, F>
where
    T: Record,
    K: Owned + Clone,
    U: Record + Owned,
    F: for<'x, 'm, 'b> Fn(&'x Match<'m, 'b, T, K>) -> U + 'static,
{
    type In = T;
    type Key = K;
    type Out = U;

    #[inline(always)]
    fn finish<E: Emit<U>>(
        &self,
        _operator: u32,
        found: &Match<'_, '_, T, K>,
        cx: &mut RowContext,
        next: &mut E,
    ) -> u64 {
        next.emit((self.function)(found), cx);
        1
    }
}

/// Any number of rows of each match.
pub struct FlatSelect<T, K, U, F> {
    pub(super) function: F,
    pub(super) types: PhantomData<fn(T, K) -> U>,
}

impl<T, K, U, F> std::fmt::Debug for FlatSelect<T, K, U, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlatSelect")
    }
}

impl<T, K, U, F> MatchFunction for FlatSelect<T, K, U, F>
where
    T: Record,
    K: Owned + Clone,
    U: Record,
    F: for<'x, 'm, 'b, 'o> Fn(&'x Match<'m, 'b, T, K>, &'x mut Out<'o, U>) + 'static,
{
    type In = T;
    type Key = K;
    type Out = U;

    #[inline(always)]
    fn finish<E: Emit<U>>(&self, operator: u32, found: &Match<'_, '_, T, K>, cx: &mut RowContext, next: &mut E) -> u64 {
        let mut out = Out::new(operator, next, cx);
        (self.function)(found, &mut out);
        out.given()
    }
}

/// The head of a chain that begins with a pattern.
pub struct PatternHead<M: MatchFunction> {
    pub(super) function: M,
    pub(super) operator: u32,
    pub(super) selector: SharedKey<M::In, M::Key>,
    pub(super) conditions: Vec<Condition<M::In>>,
    pub(super) stages: Vec<String>,
    pub(super) timed_out: Option<TimedOut<M::In, M::Key>>,
    pub(super) order: Option<Order<M::In>>,
    pub(super) given: u64,
}

impl<M: MatchFunction> std::fmt::Debug for PatternHead<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PatternHead")
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

/// Matches of a call, one after the other.
struct Paths<'p> {
    paths: &'p MatchPaths,
    start: usize,
    next: usize,
}

impl<'p> Paths<'p> {
    /// Checks that all name rows and stages that are there.
    fn new(paths: &'p MatchPaths, rows: usize, stages: usize) -> Result<Self, CallError> {
        let members = paths.members.iter().all(|row| (*row as usize) < rows);
        let known = paths.stages.iter().all(|stage| (*stage as usize) < stages);
        let ordered =
            paths.ends.is_sorted() && paths.ends.last().is_none_or(|end| *end as usize <= paths.members.len());
        if !(members && known && ordered && paths.members.len() == paths.stages.len()) {
            return Err(failure("matches name rows or stages that are not there"));
        }
        Ok(Paths {
            paths,
            start: 0,
            next: 0,
        })
    }
}

impl<'p> Iterator for Paths<'p> {
    type Item = (&'p [u32], &'p [u32]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = *self.paths.ends.get(self.next)? as usize;
        let (start, paths) = (std::mem::replace(&mut self.start, end), self.paths);
        self.next += 1;
        Some((&paths.members[start..end], &paths.stages[start..end]))
    }
}

impl<M: MatchFunction> PatternHead<M> {
    fn select<E: Tail<M::Out>>(
        &mut self,
        block: &Block,
        matches: &Matches,
        cx: &mut RowContext,
        tail: &mut E,
    ) -> Result<(), CallError> {
        let rows = Decoded::<M::In>::new(block, cx.time_in);
        let paths = Paths::new(&matches.paths, rows.count, self.stages.len())?;
        let times = matches.times.iter().zip(&matches.timed_out);
        for (entry, ((members, stages), (&time, &timed_out))) in paths.zip(times).enumerate() {
            if members.is_empty() {
                return Err(failure("a match has no rows"));
            }
            position::set_entry(entry as u32);
            position::enter(self.operator);
            cx.time = time;
            let found = Match {
                matched: Matched {
                    rows: &rows,
                    members,
                    stages,
                    names: &self.stages,
                },
                selector: &*self.selector,
                time,
            };
            match (&self.timed_out, timed_out) {
                (_, false) => self.given += self.function.finish(self.operator, &found, cx, tail),
                (Some(timed_out), true) => timed_out(self.operator, &found, cx),
                (None, true) => return Err(failure("nobody asked for matches whose time is over")),
            }
        }
        Ok(())
    }
}

impl<M: MatchFunction> Chain for PatternHead<M> {
    type Out = M::Out;
    const FALLIBLE: bool = false;
    type Refusing<X: Chain> = Rows<X::Out>;

    fn refusing<X: Chain>(stream: Stream<X>) -> Stream<Rows<X::Out>> {
        stream.share()
    }

    type Alone = Self;

    fn alone(stream: Stream<Self>) -> Stream<Self> {
        stream
    }

    #[inline(always)]
    fn run<E: Tail<M::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        match *work {
            Work::Matches { block, matches } => self.select(block, matches, cx, tail),
            Work::Close => Ok(()),
            Work::Rows { .. } | Work::Timers { .. } | Work::Windows { .. } => {
                Err(failure("this chain begins with a pattern"))
            }
        }
    }

    fn head(&mut self) -> &mut dyn Head {
        self
    }

    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64 {
        take_given(&mut self.given, emitted)
    }
}

impl<M: MatchFunction> Head for PatternHead<M> {
    fn conditions(&mut self, rows: &Block, time_in: bool) -> Result<RowConditions, CallError> {
        let rows = Decoded::<M::In>::new(rows, time_in);
        let mut all = Vec::with_capacity(rows.count);
        let (mut order, mut order_ends) = (Vec::new(), Vec::new());
        for index in 0..rows.count {
            position::set_entry(index as u32);
            position::enter(self.operator);
            let row = M::In::get(&rows.columns, index);
            let conditions = self.conditions.iter().enumerate();
            let holds = conditions.map(|(number, condition)| u64::from(condition.may_hold(&row)) << number);
            all.push(holds.fold(0, |all, holds| all | holds));
            if let Some(of_row) = &self.order {
                of_row(&row, &mut order);
                order_ends.push(order.len() as u32);
            }
        }
        position::leave();
        Ok(RowConditions {
            holds: all,
            order,
            order_ends,
        })
    }

    fn iterative_conditions(
        &mut self,
        rows: &Block,
        candidates: &Candidates,
        time_in: bool,
    ) -> Result<Vec<bool>, CallError> {
        let rows = Decoded::<M::In>::new(rows, time_in);
        let paths = Paths::new(&candidates.paths, rows.count, self.stages.len())?;
        let asked = candidates.rows.iter().zip(&candidates.conditions);
        let mut answers = Vec::with_capacity(candidates.rows.len());
        for (entry, ((members, stages), (&row, &condition))) in paths.zip(asked).enumerate() {
            position::set_entry(entry as u32);
            position::enter(self.operator);
            let before = Matched {
                rows: &rows,
                members,
                stages,
                names: &self.stages,
            };
            let condition = self.conditions.get(condition as usize);
            let (Some(condition), true) = (condition, (row as usize) < rows.count) else {
                return Err(failure("a candidate names a row or condition that is not there"));
            };
            answers.push(condition.holds(&M::In::get(&rows.columns, row as usize), &before));
        }
        position::leave();
        Ok(answers)
    }
}
