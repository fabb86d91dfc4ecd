//! What a pipeline declares of a pattern of events. See `wit/dataflow.wit` for the meaning of every field;
//! [`Program::compile`](crate::Program::compile) makes of it what is run.

use crate::Millis;

/// How an element of a pattern is joined to what comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Connection {
    /// The very next row.
    Next,
    /// The next row that fits, whatever lies between.
    FollowedBy,
    /// Any later row that fits.
    FollowedByAny,
    /// The very next row must not fit.
    NotNext,
    /// No row may fit until the next element.
    NotFollowedBy,
}

/// How repetitions of an element are joined to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Contiguity {
    /// The very next row.
    Strict,
    /// The next row that fits.
    Relaxed,
    /// Any later row that fits.
    Any,
}

/// A stage, or a group of the elements that follow it in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PatternElement {
    /// Name of a stage; of a group it is for people.
    pub name: String,
    /// What joins it to the element before; of the first it means nothing.
    pub connection: Connection,
    /// Number of a stage's condition; `None`: every row fits.
    pub condition: Option<u32>,
    /// Fewest repetitions, at least 1.
    pub least: u32,
    /// Most repetitions; `None`: any number.
    pub most: Option<u32>,
    /// It may be missing altogether.
    pub optional: bool,
    /// What joins its repetitions.
    pub repeated: Contiguity,
    /// It takes as many repetitions as it can.
    pub greedy: bool,
    /// Number of the condition that ends its repetitions.
    pub until: Option<u32>,
    /// Elements directly in it; 0: it is a stage.
    pub children: u32,
}

/// Which other matches there are beside one that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum AfterMatch {
    /// All.
    NoSkip,
    /// None that begins with the same row.
    SkipToNext,
    /// None that begins before its last row has passed.
    SkipPastLast,
    /// None that begins before its first row of this stage.
    SkipToFirst(String),
    /// None that begins before its last row of this stage.
    SkipToLast(String),
}

/// A pattern of events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PatternDecl {
    /// Parents before children.
    pub elements: Vec<PatternElement>,
    /// Of each condition whether it looks at the rows that were matched before.
    pub conditions: Vec<bool>,
    /// From its first row a match takes less than this.
    pub within_ms: Option<Millis>,
    /// From each of its rows to the next a match takes less than this.
    pub within_gap_ms: Option<Millis>,
    /// Which other matches there are.
    pub after_match: AfterMatch,
    /// Partial matches that ran out of time are put out as well.
    pub timeouts: bool,
    /// Port for rows that come too late; `None`: they are dropped and counted.
    pub late_port: Option<u32>,
    /// Partial matches of a key; more are dropped, the oldest first, and counted.
    pub partial_matches_max: u32,
    /// Rows of a key and of equal time are in an order of their own: whoever gives them to the matcher sees to it.
    pub orders_equal_times: bool,
}
