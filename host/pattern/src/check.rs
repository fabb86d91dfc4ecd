//! What a declared pattern must satisfy before it is compiled.

use std::collections::BTreeSet;

use crate::{AfterMatch, CONDITIONS_MAX, Connection, PatternDecl, PatternElement, Refused, refused};

/// Groups in groups.
const DEPTH_MAX: usize = 16;

impl PatternElement {
    /// Whether a row is taken for it, and not refused.
    pub fn is_taken(&self) -> bool {
        match self.connection {
            Connection::Next | Connection::FollowedBy | Connection::FollowedByAny => true,
            Connection::NotNext | Connection::NotFollowedBy => false,
        }
    }
}

pub(super) fn check(pattern: &PatternDecl) -> Result<(), Refused> {
    if pattern.conditions.len() > CONDITIONS_MAX {
        let count = pattern.conditions.len();
        return Err(refused(format!(
            "the pattern has {count} conditions; up to {CONDITIONS_MAX} are supported"
        )));
    }
    if pattern.partial_matches_max == 0 {
        return Err(refused("the pattern may have no partial match"));
    }
    let times = [pattern.within_ms, pattern.within_gap_ms];
    if times.into_iter().flatten().any(|time| time <= 0) {
        let problem = "the pattern has no time: `within` and `within_gap` must be longer than 0 ms";
        return Err(refused(problem));
    }
    let mut names = BTreeSet::new();
    for element in &pattern.elements {
        check_element(pattern, element)?;
        if element.children == 0 && !names.insert(&element.name) {
            let name = &element.name;
            return Err(refused(format!("two stages of the pattern have the name `{name}`")));
        }
    }
    let mut next = 0;
    while next < pattern.elements.len() {
        next = check_place(pattern, next, next == 0, 0)?;
    }
    if pattern.elements.is_empty() {
        return Err(refused("the pattern has no stage"));
    }
    match &pattern.after_match {
        AfterMatch::NoSkip | AfterMatch::SkipToNext | AfterMatch::SkipPastLast => Ok(()),
        AfterMatch::SkipToFirst(name) | AfterMatch::SkipToLast(name) => {
            let refuses = |element: &&PatternElement| element.name == *name && !element.is_taken();
            let negative = pattern.elements.iter().find(refuses);
            negative.map_or(Ok(()), |element| {
                Err(at(element, "no row is taken for it, so nothing can skip to it"))
            })
        }
    }
}

fn at(element: &PatternElement, problem: &str) -> Refused {
    refused(format!("stage `{}` of the pattern: {problem}", element.name))
}

fn check_element(pattern: &PatternDecl, element: &PatternElement) -> Result<(), Refused> {
    let known = |condition: Option<u32>| condition.is_none_or(|number| (number as usize) < pattern.conditions.len());
    if !known(element.condition) || !known(element.until) {
        return Err(at(element, "it names a condition that is not there"));
    }
    if element.least == 0 || element.most.is_some_and(|most| most < element.least) {
        return Err(at(element, "it is repeated from at least once to at least as often"));
    }
    let repeats = element.most != Some(1);
    if !element.is_taken() {
        if repeats || element.optional || element.children > 0 || element.greedy {
            return Err(at(
                element,
                "what must not come is one stage, neither repeated nor optional",
            ));
        }
        if element.condition.is_none() {
            return Err(at(element, "what must not come needs a condition"));
        }
    }
    if element.greedy && (element.children > 0 || element.most == Some(element.least)) {
        return Err(at(
            element,
            "`greedy` belongs to a stage whose number of repetitions is not fixed",
        ));
    }
    if element.until.is_some() && element.most.is_some() {
        return Err(at(element, "`until` belongs to repetitions without an end"));
    }
    if element.children > 0 && element.condition.is_some() {
        return Err(at(element, "a group has no condition; its stages have"));
    }
    Ok(())
}

/// Checks an element with those in it, which are behind it in the list; the place behind them.
fn check_place(pattern: &PatternDecl, at_index: usize, first: bool, depth: usize) -> Result<usize, Refused> {
    if depth > DEPTH_MAX {
        return Err(refused(format!(
            "groups of a pattern are nested up to {DEPTH_MAX} deep"
        )));
    }
    let missing = || refused("a group of the pattern has fewer elements than it says");
    let element = pattern.elements.get(at_index).ok_or_else(missing)?;
    if first && !element.is_taken() {
        return Err(at(element, "a pattern and its groups begin with what is to come"));
    }
    let mut next = at_index + 1;
    for number in 0..element.children {
        next = check_place(pattern, next, number == 0, depth + 1)?;
    }
    Ok(next)
}
