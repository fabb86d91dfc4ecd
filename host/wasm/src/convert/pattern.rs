//! Patterns, from the contract's declarations to the core's.

use millrace_core::Result;
use millrace_core::graph::{self, PatternDecl, PatternElement};
use millrace_core::pattern::state_decl;

use super::{DECLARATIONS_MAX, Tables, millis, refuse};
use crate::bindings::dataflow;

impl Tables {
    /// A pattern over rows of the chain's first input: a keyed head with a state of the host's making.
    pub(super) fn pattern(&self, keyed: dataflow::KeyedPattern, inputs: &[u32]) -> Result<graph::Head> {
        let Some(&input) = inputs.first() else {
            return refuse("a pattern has no input");
        };
        let rows = self.declared(input)?;
        let state = state_decl(&rows.schema, rows.hints.clone());
        let pattern = keyed.pattern;
        if pattern.elements.len() > DECLARATIONS_MAX {
            let count = pattern.elements.len();
            return refuse(format!(
                "a pattern has {count} elements; the limit is {DECLARATIONS_MAX}"
            ));
        }
        let within = pattern.within_ms.map(|within| millis(within, "the time of a pattern"));
        let gap = pattern.within_gap_ms.map(|gap| millis(gap, "a gap of a pattern"));
        Ok(graph::Head::Keyed {
            key_schema: self.schema(keyed.key_schema)?,
            key_hints: self.declared(keyed.key_schema)?.hints.clone(),
            states: vec![state],
            always_writes: false,
            unkeyed: false,
            applies: false,
            windows: None,
            pattern: Some(Box::new(PatternDecl {
                elements: pattern.elements.into_iter().map(element).collect(),
                conditions: pattern.conditions,
                within_ms: within.transpose()?,
                within_gap_ms: gap.transpose()?,
                after_match: after_match(pattern.after_match),
                timeouts: pattern.timeouts,
                late_port: pattern.late_port,
                partial_matches_max: pattern.partial_matches_max,
                orders_equal_times: pattern.orders_equal_times,
            })),
        })
    }
}

fn element(element: dataflow::PatternElement) -> PatternElement {
    PatternElement {
        name: element.name,
        connection: match element.connection {
            dataflow::Connection::Next => graph::Connection::Next,
            dataflow::Connection::FollowedBy => graph::Connection::FollowedBy,
            dataflow::Connection::FollowedByAny => graph::Connection::FollowedByAny,
            dataflow::Connection::NotNext => graph::Connection::NotNext,
            dataflow::Connection::NotFollowedBy => graph::Connection::NotFollowedBy,
        },
        condition: element.condition,
        least: element.least,
        most: element.most,
        optional: element.optional,
        repeated: match element.repeated {
            dataflow::Contiguity::Strict => graph::Contiguity::Strict,
            dataflow::Contiguity::Relaxed => graph::Contiguity::Relaxed,
            dataflow::Contiguity::Any => graph::Contiguity::Any,
        },
        greedy: element.greedy,
        until: element.until,
        children: element.children,
    }
}

fn after_match(after_match: dataflow::AfterMatch) -> graph::AfterMatch {
    match after_match {
        dataflow::AfterMatch::NoSkip => graph::AfterMatch::NoSkip,
        dataflow::AfterMatch::SkipToNext => graph::AfterMatch::SkipToNext,
        dataflow::AfterMatch::SkipPastLast => graph::AfterMatch::SkipPastLast,
        dataflow::AfterMatch::SkipToFirst(stage) => graph::AfterMatch::SkipToFirst(stage),
        dataflow::AfterMatch::SkipToLast(stage) => graph::AfterMatch::SkipToLast(stage),
    }
}
