//! Patterns of events: from a declaration to an automaton, and from rows to matches.
//!
//! Both the host and tests of pipelines run this crate, so that there is one meaning of a pattern. It knows no columns, no
//! user code and no clock: a row is a [`Place`], a time, and a set of conditions that hold of it; whoever calls it keeps the
//! rows, asks for conditions and puts out what is found.
//!
//! [`Program::compile`] makes one of what a pipeline declares. Every repetition of every stage becomes a *position*: a place
//! in a match that one row takes. From each position lead *edges* to those that may come next. A partial match has
//! come to a position and waits on some of its edges; [`Edge`] says which rows it may pass over while it waits, which one it
//! takes, and which end it. So what a pattern means is said in one place, edge by edge, and stepping it is arithmetic on
//! sets of conditions, one bit for each.
//!
//! ```text
//!    begin(a) . followed_by(b).one_or_more() . next(c)
//!
//!                       +-- unless b --+
//!    start ---> a ------+---> b -------+--+          what stands on an edge is what may be passed over:
//!                 unless b     |          |          of a strict one nothing
//!                              +----------+---> c
//! ```
//!
//! [`Matcher`] steps the partial matches of a [`Key`], row by row, [`Buffer`] keeps the rows that they share, and
//! [`Stored`] is what a snapshot has of a key.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod after;
mod buffer;
mod check;
mod compile;
mod decl;
mod matcher;
mod stored;

pub use buffer::{Buffer, Event, Incoming, NO_NODE, Node, Place};
pub use decl::{AfterMatch, Connection, Contiguity, PatternDecl, PatternElement};
pub use matcher::{Completed, Found, Key, Matcher, Partial, Start};
pub use stored::{Stored, StoredCompleted, StoredNode, StoredPartial};

/// A point in time or a length of time in ms.
pub type Millis = i64;

/// A set of conditions, one bit each.
pub type Conditions = u64;

/// Conditions of a pattern, those that end repetitions among them.
pub const CONDITIONS_MAX: usize = 63;

/// The condition of stages that have none: it holds of every row.
pub const ALWAYS: Conditions = 1 << CONDITIONS_MAX;

/// Positions of a pattern: stages times repetitions.
pub const POSITIONS_MAX: usize = 1_000;

/// Edges from a position, one bit each in a partial match.
pub const EDGES_MAX: usize = 64;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Names of stages, in the order of the declaration, those that must not come left out.
    pub stages: Vec<String>,
    /// Places in a match.
    pub positions: Vec<Position>,
    /// By which a match begins. Nothing is passed over on them: every row may begin one.
    pub start: Vec<Edge>,
    /// Conditions that look at the rows matched before.
    pub iterative: Conditions,
    /// A partial match is over when so much time has passed since its first row.
    pub within_ms: Option<i64>,
    /// And when so much time has passed since its last row.
    pub within_gap_ms: Option<i64>,
    /// Which other matches there are.
    pub after_match: Skip,
    /// Partial matches that ran out of time are put out.
    pub timeouts: bool,
    /// Partial matches of a key.
    pub partials_max: usize,
    /// A row of which no condition holds changes nothing.
    pub ignores_others: bool,
    /// By position: a match that has come there passes over a row of which none of these holds, and is what it was.
    pub moved_by: Vec<Conditions>,
}

/// [`AfterMatch`] by number of stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "see AfterMatch")]
pub enum Skip {
    NoSkip,
    ToNext,
    PastLast,
    ToFirst(u16),
    ToLast(u16),
}

/// A place in a match, taken by one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Index into [`Program::stages`].
    pub stage: u16,
    /// Where it can go on.
    pub edges: Vec<Edge>,
    /// The edges that a partial match waits on when it has just come here.
    pub initial: u64,
    /// A match may end here.
    pub accepts: bool,
}

/// Where an edge leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To a position, which the row takes.
    Position(u16),
    /// To the end of the match, which does not take the row.
    Match,
    /// To the end of the match when its time is over.
    Timeout,
}

/// Which rows may be passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassOver {
    /// None.
    Nothing,
    /// Those that it would not take.
    NotTaken,
    /// Any.
    Anything,
}

/// A way on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Where it leads.
    pub target: Target,
    /// All of these must hold of the row that is taken,
    pub take_all: Conditions,
    /// and none of these.
    pub take_none: Conditions,
    /// A row of which one of these holds ends the wait, whether it would be taken or passed over.
    pub guards: Conditions,
    /// What may be passed over.
    pub pass_over: PassOver,
    /// The edge to wait on after a row was passed over.
    pub passed: u8,
    /// If one of these holds of a row, the other edge counts, from this row on.
    pub released: Option<(Conditions, u8)>,
}

impl Edge {
    /// All conditions that it asks about.
    pub fn asks(&self) -> Conditions {
        let released = self.released.map_or(0, |(conditions, _)| conditions);
        self.take_all | self.take_none | self.guards | released
    }

    /// Whether a row of which these hold is taken.
    pub fn takes(&self, holds: Conditions) -> bool {
        holds & self.take_all == self.take_all && holds & self.take_none == 0
    }
}

/// Indices of the bits of a set.
pub fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(bit)
    })
}

impl Program {
    /// Makes an automaton of a pattern; what it means nothing by is refused with a message for its author.
    ///
    /// ```
    /// use millrace_pattern::{AfterMatch, Connection, Contiguity, PatternDecl, PatternElement, Program};
    ///
    /// let stage = PatternElement {
    ///     name: "a".into(), connection: Connection::Next, condition: Some(0), least: 1, most: Some(1), optional: false,
    ///     repeated: Contiguity::Relaxed, greedy: false, until: None, children: 0,
    /// };
    /// let pattern = PatternDecl {
    ///     elements: vec![stage], conditions: vec![false], within_ms: None, within_gap_ms: None,
    ///     after_match: AfterMatch::NoSkip, timeouts: false, late_port: None, partial_matches_max: 10,
    ///     orders_equal_times: false,
    /// };
    /// assert!(Program::compile(&pattern).unwrap().positions[0].accepts);
    /// ```
    pub fn compile(pattern: &PatternDecl) -> Result<Program, Refused> {
        compile::compile(pattern)
    }

    /// Whether nothing follows from it that a partial match runs out of time, but that it is gone.
    pub fn times_out_unseen(&self) -> bool {
        let edges = self.positions.iter().flat_map(|position| &position.edges);
        let completes = edges.into_iter().any(|edge| edge.target == Target::Timeout);
        !self.timeouts && !completes && self.after_match == Skip::NoSkip
    }

    /// Tells this automaton from others: what is stored of partial matches means something to the same one alone.
    pub fn fingerprint(&self) -> i64 {
        let text = format!("{:?} {:?} {:?}", self.stages, self.positions, self.start);
        // FNV-1a.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        hash.cast_signed()
    }
}

/// A pattern means nothing: what its author has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refused(message: impl Into<String>) -> Refused {
    Refused(message.into())
}

fn skip(after_match: &AfterMatch, stages: &[String]) -> Result<Skip, Refused> {
    let stage = |name: &String| {
        let found = stages.iter().position(|stage| stage == name);
        found.map(|stage| stage as u16).ok_or_else(|| {
            refused(format!(
                "the pattern skips to `{name}` after a match, and has no such stage"
            ))
        })
    };
    Ok(match after_match {
        AfterMatch::NoSkip => Skip::NoSkip,
        AfterMatch::SkipToNext => Skip::ToNext,
        AfterMatch::SkipPastLast => Skip::PastLast,
        AfterMatch::SkipToFirst(name) => Skip::ToFirst(stage(name)?),
        AfterMatch::SkipToLast(name) => Skip::ToLast(stage(name)?),
    })
}

#[cfg(test)]
#[path = "../../core/src/testing.rs"]
mod testing;
#[cfg(test)]
mod tests;

// Random patterns are made for the tests of another crate, too.
#[cfg(test)]
extern crate self as millrace_pattern;
