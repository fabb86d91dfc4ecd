//! Stepping the partial matches of a key, row by row.
//!
//! A key's partial matches lie in the order of their first rows. What a row does to each of them depends on
//! that one alone and on which conditions hold, so a step is a loop over edges and no more; the rest is about which matches
//! go out, and which are given up because of them.

use crate::after::{After, Partials};
use crate::buffer::{Buffer, Incoming, NO_NODE};
use crate::{ALWAYS, Conditions, Millis, PassOver, Program, Skip, Target, bits};

/// A match that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Partial {
    /// Where it has come to.
    pub position: u16,
    /// The edges that it waits on.
    pub edges: u64,
    /// Its last row.
    pub node: u32,
    /// Its first row.
    pub start: Start,
}

/// The first row of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// When it was.
    pub time: Millis,
    /// Its order among the rows matched.
    pub order: u64,
}

/// A match that waits for partial matches that began before it, since they may yet skip it.
#[derive(Debug, Clone, Copy)]
pub struct Completed {
    /// Its last row.
    pub node: u32,
    /// Its first row.
    pub start: Start,
    /// When it was complete.
    pub time: Millis,
}

/// A match to be put out. It holds its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its last row.
    pub node: u32,
    /// When it was complete, or over.
    pub time: Millis,
    /// It ran out of time before it was complete.
    pub timed_out: bool,
}

/// What has begun of a key. Most keys have few partial matches: these and all else are two neighbouring cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Key {
    /// Partial matches, in the order of their first rows.
    pub partials: Partials,
    /// Boxed, since few patterns have any.
    #[expect(clippy::box_collection, reason = "most keys have none, and should be small")]
    completed: Option<Box<Vec<Completed>>>,
    /// It will be looked at then, for the end of a partial match: none ends before. It may be that it has ended since.
    pub looked_at: Option<Millis>,
}

impl Key {
    /// Whether nothing has begun.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.partials.is_empty() && self.completed().is_empty()
    }

    /// Matches that wait for earlier ones, in the order of their first rows.
    #[inline]
    pub fn completed(&self) -> &[Completed] {
        self.completed.as_ref().map_or(&[], |completed| completed.as_slice())
    }

    /// The same, to be changed.
    pub fn completed_mut(&mut self) -> &mut Vec<Completed> {
        self.completed.get_or_insert_default()
    }
}

/// Steps the keys of an operator.
///
/// Of each key rows come in the order of time. For each: [`advance`](Matcher::advance) to its time, answer what it
/// [`asks`](Matcher::asks), [`step`](Matcher::step), then [`Buffer::end`]. What is complete lies in [`found`](Matcher::found), and
/// rows that nobody wants any more in [`Buffer::freed`]: whoever calls takes them from there.
///
/// ```
/// use millrace_pattern::{Contiguity, Incoming, Key, Matcher, PatternElement, Place, Program};
/// # use millrace_pattern::{AfterMatch, Connection, PatternDecl};
///
/// # let stage = |name: &str, condition| PatternElement {
/// #     name: name.into(), connection: Connection::Next, condition: Some(condition), least: 1, most: Some(1), optional: false,
/// #     repeated: Contiguity::Relaxed, greedy: false, until: None, children: 0,
/// # };
/// # let pattern = PatternDecl {
/// #     elements: vec![stage("a", 0), stage("b", 1)], conditions: vec![false, false], within_ms: None, within_gap_ms: None,
/// #     after_match: AfterMatch::NoSkip, timeouts: false, late_port: None, partial_matches_max: 10,
/// #     orders_equal_times: false,
/// # };
/// let (mut matcher, mut key) = (Matcher::new(Program::compile(&pattern).unwrap()), Key::default());
/// for (row, holds) in [(0, 0b01), (1, 0b10)] {
///     let mut row = Incoming::new(Place { batch: 0, row }, 7, holds);
///     matcher.step(&mut key, &mut row, std::iter::empty());
///     matcher.buffer.end(row);
/// }
/// assert_eq!(matcher.found.len(), 1);
/// ```
#[derive(Debug)]
pub struct Matcher {
    /// The pattern.
    pub program: Program,
    /// Rows of partial matches, and of those found.
    pub buffer: Buffer,
    /// What is to be put out, in order. Each holds its node: who takes it releases it.
    pub found: Vec<Found>,
    /// Partial matches that were given up for there were too many.
    pub dropped: u64,
    /// What a row makes of the partial matches of a key.
    after: After,
}

impl Matcher {
    /// Of a pattern, before the first row.
    pub fn new(program: Program) -> Self {
        Matcher {
            program,
            buffer: Buffer::default(),
            found: Vec::new(),
            dropped: 0,
            after: After::default(),
        }
    }

    /// When a partial match runs out of time.
    #[inline]
    fn ends(&self, partial: &Partial) -> Option<Millis> {
        let within = self.program.within_ms;
        let whole = within.map(|within| partial.start.time.saturating_add(within));
        let gap = self.program.within_gap_ms.map(|gap| {
            let last = self.buffer.event(self.buffer.node(partial.node).event);
            last.time.saturating_add(gap)
        });
        whole.into_iter().chain(gap).min()
    }

    /// When the first of the partial matches of a key runs out of time.
    #[inline]
    pub fn deadline(&self, key: &Key) -> Option<Millis> {
        match self.program.within_gap_ms {
            None => self.ends(key.partials.first()?),
            Some(_) => key.partials.iter().filter_map(|partial| self.ends(partial)).min(),
        }
    }

    /// Which conditions have to be asked before a row can be matched that may satisfy these: of which partial match (by its
    /// last row), and which.
    pub fn asks(&self, key: &Key, may: Conditions, ask: &mut impl FnMut(u32, u8)) {
        let iterative = may & self.program.iterative;
        if iterative == 0 {
            return;
        }
        for partial in &key.partials {
            let asked = self.asked(partial) & iterative;
            bits(asked).for_each(|condition| ask(partial.node, condition as u8));
        }
        bits(self.asked_at_start() & iterative).for_each(|condition| ask(NO_NODE, condition as u8));
    }

    fn asked(&self, partial: &Partial) -> Conditions {
        let edges = &self.program.positions[usize::from(partial.position)].edges;
        bits(partial.edges).fold(0, |set, edge| set | edges[edge].asks())
    }

    fn asked_at_start(&self) -> Conditions {
        self.program.start.iter().fold(0, |set, edge| set | edge.asks())
    }

    /// What holds of a row beside a partial match, with the next answers to what was asked.
    fn holds(&self, may: Conditions, asked: Conditions, answers: &mut impl Iterator<Item = bool>) -> Conditions {
        let iterative = self.program.iterative;
        let mut holds = may & !iterative | ALWAYS;
        for condition in bits(asked & iterative & may) {
            if answers.next().unwrap_or(false) {
                holds |= 1 << condition;
            }
        }
        holds
    }

    /// Matches a row of a key. `answers` are those to [`asks`](Self::asks), in order.
    pub fn step(&mut self, key: &mut Key, row: &mut Incoming, mut answers: impl Iterator<Item = bool>) {
        let order = self.buffer.begin(row);
        let (may, time, iterative) = (row.may, row.time, self.program.iterative != 0);
        self.after.begin(&key.partials);
        while let Some(partial) = self.after.next(&key.partials) {
            let asked = if iterative { self.asked(&partial) } else { 0 };
            let holds = self.holds(may, asked, &mut answers);
            if holds & self.program.moved_by[usize::from(partial.position)] == 0 {
                self.after.stay(&mut key.partials, &partial);
            } else {
                self.step_partial(key, partial, row, holds);
            }
        }
        let asked = if iterative { self.asked_at_start() } else { 0 };
        let holds = self.holds(may, asked, &mut answers);
        for edge in 0..self.program.start.len() {
            let edge = self.program.start[edge];
            if let (true, Target::Position(position)) = (edge.takes(holds), edge.target) {
                let start = Start { time, order };
                self.arrive(key, position, row, NO_NODE, start);
            }
        }
        self.after.end(&mut key.partials);
        if self.program.after_match != Skip::NoSkip {
            self.put_out_completed(key);
        }
        self.keep_bound(key);
    }

    fn step_partial(&mut self, key: &mut Key, partial: Partial, row: &mut Incoming, holds: Conditions) {
        let mut waits = 0;
        for number in bits(partial.edges) {
            let edges = &self.program.positions[usize::from(partial.position)].edges;
            let mut edge = edges[number];
            if let Some((_, other)) = edge.released.filter(|(conditions, _)| holds & conditions != 0) {
                edge = edges[usize::from(other)];
            }
            if holds & edge.guards != 0 {
                continue;
            }
            let takes = edge.takes(holds);
            match edge.target {
                Target::Position(position) => {
                    if takes {
                        self.arrive(key, position, row, partial.node, partial.start);
                    }
                    let passes = match edge.pass_over {
                        PassOver::Nothing => false,
                        PassOver::NotTaken => !takes,
                        PassOver::Anything => true,
                    };
                    waits |= u64::from(passes) << edge.passed;
                }
                Target::Match => {
                    self.buffer.retain(partial.node);
                    self.complete(key, partial.node, partial.start, row.time);
                }
                Target::Timeout => waits |= 1 << edge.passed,
            }
        }
        if waits == 0 {
            self.buffer.release(partial.node);
        } else {
            // Behind those that came of it: of two that end with the same row, that which took the earlier rows is found first.
            let partial = Partial {
                edges: waits,
                ..partial
            };
            self.after.put(&mut key.partials, partial);
        }
    }

    /// A match takes a row.
    fn arrive(&mut self, key: &mut Key, position: u16, row: &mut Incoming, parent: u32, start: Start) {
        let (stage, edges, accepts) = {
            let position = &self.program.positions[usize::from(position)];
            (position.stage, position.initial, position.accepts)
        };
        let event = self.buffer.take(row);
        let node = self.buffer.add_node(event, stage, parent);
        if accepts {
            self.buffer.retain(node);
            self.complete(key, node, start, row.time);
        }
        if edges == 0 {
            self.buffer.release(node);
            return;
        }
        let partial = Partial {
            position,
            edges,
            node,
            start,
        };
        self.after.put(&mut key.partials, partial);
    }

    /// A match is complete. It holds the node.
    fn complete(&mut self, key: &mut Key, node: u32, start: Start, time: Millis) {
        if self.program.after_match == Skip::NoSkip {
            self.found.push(Found {
                node,
                time,
                timed_out: false,
            });
        } else {
            let completed = key.completed_mut();
            let behind = completed.partition_point(|other| other.start.order <= start.order);
            completed.insert(behind, Completed { node, start, time });
        }
    }

    /// Puts out matches, from the earliest on, before which no partial match has begun; each gives up others.
    fn put_out_completed(&mut self, key: &mut Key) {
        while let Some(&first) = key.completed().first() {
            let earlier = |partial: &Partial| partial.start.order < first.start.order;
            if key.partials.iter().any(earlier) {
                return;
            }
            key.completed_mut().remove(0);
            self.found.push(Found {
                node: first.node,
                time: first.time,
                timed_out: false,
            });
            if let Some(upto) = self.skipped_upto(first.node) {
                self.give_up(key, upto);
            }
        }
    }

    /// What began with the row of this order, or before, is not wanted beside this match.
    fn skipped_upto(&self, node: u32) -> Option<u64> {
        let mut rows = self.buffer.path(node).map(|(_, node)| node);
        let order = |event: u32| self.buffer.event(event).order;
        match self.program.after_match {
            Skip::NoSkip => None,
            Skip::ToNext => rows.last().map(|first| order(first.event)),
            Skip::PastLast => rows.next().map(|last| order(last.event)),
            Skip::ToFirst(stage) => {
                let found = rows.filter(|node| node.stage == stage).last();
                found.map(|node| order(node.event) - 1)
            }
            Skip::ToLast(stage) => {
                let found = rows.find(|node| node.stage == stage);
                found.map(|node| order(node.event) - 1)
            }
        }
    }

    fn give_up(&mut self, key: &mut Key, upto: u64) {
        let buffer = &mut self.buffer;
        let mut keep = |start: Start, node: u32| {
            let keeps = start.order > upto;
            if !keeps {
                buffer.release(node);
            }
            keeps
        };
        key.partials.retain(|partial| keep(partial.start, partial.node));
        let completed = key.completed_mut();
        completed.retain(|completed| keep(completed.start, completed.node));
    }

    /// Gives up the oldest partial matches where there are too many.
    fn keep_bound(&mut self, key: &mut Key) {
        let max = self.program.partials_max;
        let count = key.partials.len() + key.completed().len();
        if count <= max {
            return;
        }
        let excess = (count - max).min(key.partials.len());
        for partial in key.partials.drain(..excess) {
            self.buffer.release(partial.node);
        }
        self.dropped += excess as u64;
        if self.program.after_match != Skip::NoSkip {
            self.put_out_completed(key);
        }
    }

    /// Time has come to here: partial matches whose time is over go out, one way or another.
    #[inline]
    pub fn advance(&mut self, key: &mut Key, time: Millis) {
        if self.deadline(key).is_some_and(|deadline| deadline <= time) {
            self.end_partials(key, time);
        }
    }

    fn end_partials(&mut self, key: &mut Key, time: Millis) {
        self.after.begin(&key.partials);
        while let Some(partial) = self.after.next(&key.partials) {
            let Some(ends) = self.ends(&partial).filter(|ends| *ends <= time) else {
                self.after.stay(&mut key.partials, &partial);
                continue;
            };
            let edges = &self.program.positions[usize::from(partial.position)].edges;
            let completes = bits(partial.edges).any(|edge| edges[edge].target == Target::Timeout);
            if completes {
                self.complete(key, partial.node, partial.start, ends);
            } else if self.program.timeouts {
                self.found.push(Found {
                    node: partial.node,
                    time: ends,
                    timed_out: true,
                });
            } else {
                self.buffer.release(partial.node);
            }
        }
        self.after.end(&mut key.partials);
        if self.program.after_match != Skip::NoSkip {
            self.put_out_completed(key);
        }
    }
}
