//! Random patterns over random rows.

use std::collections::BTreeMap;

use millrace_core::graph::{AfterMatch, Connection, Contiguity, PatternDecl, PatternElement};
use millrace_core::pattern::Program;

use super::model::{Match, Row, matches};
use crate::pattern::buffer::{Incoming, Node, Place};
use crate::pattern::matcher::{Key, Matcher};
use crate::testing::Random;

const CONDITIONS: u32 = 4;

fn element(random: &mut Random, number: usize, first: bool) -> PatternElement {
    let connections = [
        Connection::Next,
        Connection::FollowedBy,
        Connection::FollowedByAny,
        Connection::NotNext,
        Connection::NotFollowedBy,
    ];
    let connection = connections[random.below(if first { 3 } else { 5 }) as usize];
    let mut element = PatternElement {
        name: format!("s{number}"),
        connection,
        condition: Some(random.below(u64::from(CONDITIONS)) as u32),
        least: 1,
        most: Some(1),
        optional: false,
        repeated: [Contiguity::Strict, Contiguity::Relaxed, Contiguity::Any][random.below(3) as usize],
        greedy: false,
        until: None,
        children: 0,
    };
    if !element.is_taken() {
        return element;
    }
    element.optional = random.below(4) == 0;
    match random.below(5) {
        0 => element.most = None,
        1 => (element.least, element.most) = (2, None),
        2 => (element.least, element.most) = (1 + random.below(2) as u32, Some(2 + random.below(2) as u32)),
        _ => {}
    }
    element.greedy = element.most != Some(element.least) && random.below(3) == 0;
    if element.most.is_none() && random.below(3) == 0 {
        element.until = Some(random.below(u64::from(CONDITIONS)) as u32);
    }
    element
}

pub(super) fn pattern(random: &mut Random) -> PatternDecl {
    let mut elements = Vec::new();
    while elements.len() < 4 {
        if random.below(5) == 0 && elements.len() < 3 {
            let mut group = element(random, elements.len(), true);
            (group.condition, group.greedy, group.children) = (None, false, 2);
            group.most = group.most.map(|most| most.min(2)).filter(|_| random.below(2) == 0);
            group.least = 1;
            group.until = group.until.filter(|_| group.most.is_none());
            elements.push(group);
            elements.push(element(random, elements.len(), true));
            elements.push(element(random, elements.len(), false));
        } else {
            elements.push(element(random, elements.len(), elements.is_empty()));
        }
        if random.below(3) == 0 {
            break;
        }
    }
    let pattern = PatternDecl {
        elements,
        conditions: vec![false; CONDITIONS as usize],
        within_ms: (random.below(2) == 0).then(|| 2 + random.below(6) as i64),
        within_gap_ms: (random.below(4) == 0).then(|| 1 + random.below(4) as i64),
        after_match: AfterMatch::NoSkip,
        timeouts: false,
        late_port: None,
        partial_matches_max: 1_000_000,
    };
    let within_ms = Program::compile(&pattern).map_or(Some(4), |_| pattern.within_ms);
    PatternDecl { within_ms, ..pattern }
}

fn rows(random: &mut Random) -> Vec<Row> {
    let mut time = 0;
    let count = 3 + random.below(5);
    let row = |_| {
        time += random.below(3) as i64;
        let holds = random.below(1 << CONDITIONS) & random.below(1 << CONDITIONS);
        Row { holds, time }
    };
    (0..count).map(row).collect()
}

/// A pattern in a few lines.
fn shown(pattern: &PatternDecl) -> String {
    let times = (pattern.within_ms, pattern.within_gap_ms);
    let mut text = format!("within {times:?}, {:?}\n", pattern.after_match);
    for element in &pattern.elements {
        let PatternElement {
            name,
            connection,
            condition,
            least,
            most,
            optional,
            repeated,
            ..
        } = element;
        let (greedy, until, children) = (element.greedy, element.until, element.children);
        text += &format!(
            "{name} {connection:?} {condition:?} {least}..{most:?} optional {optional} {repeated:?} greedy {greedy} \
             until {until:?} children {children}\n"
        );
    }
    text
}

/// Runs the matcher; what it finds, with the number of rows that had come by then.
fn run(pattern: &PatternDecl, rows: &[Row]) -> Vec<Match> {
    let program = Program::compile(pattern).unwrap();
    let stages = pattern.elements.iter().enumerate();
    let stages = stages.filter(|(_, element)| element.is_taken() && element.children == 0);
    let stages = stages.map(|(index, _)| index).collect::<Vec<_>>();
    let (mut matcher, mut key) = (Matcher::new(program), Key::default());
    let mut all = Vec::new();
    for (number, row) in (0..).zip(rows.iter().map(Some).chain([None])) {
        let Some(row) = row else {
            matcher.advance(&mut key, i64::MAX);
            take(&mut matcher, rows.len(), &stages, &mut all);
            break;
        };
        matcher.advance(&mut key, row.time);
        take(&mut matcher, number, &stages, &mut all);
        let place = Place {
            batch: 0,
            row: number as u32,
        };
        let mut incoming = Incoming::new(place, row.time, row.holds);
        matcher.step(&mut key, &mut incoming, std::iter::empty());
        matcher.buffer.end(incoming);
        take(&mut matcher, number + 1, &stages, &mut all);
    }
    assert_eq!(matcher.dropped, 0);
    if pattern.within_ms.is_some() || pattern.within_gap_ms.is_some() {
        assert!(key.is_empty());
        assert_eq!(matcher.buffer.event_count(), 0, "rows are kept for nothing");
    }
    all
}

fn take(matcher: &mut Matcher, complete: usize, stages: &[usize], all: &mut Vec<Match>) {
    for found in std::mem::take(&mut matcher.found) {
        let step = |(_, node): (u32, &Node)| {
            let row = matcher.buffer.event(node.event).place.row as usize;
            (stages[usize::from(node.stage)], row)
        };
        let mut steps = matcher.buffer.path(found.node).map(step).collect::<Vec<_>>();
        steps.reverse();
        matcher.buffer.release(found.node);
        assert!(!found.timed_out, "nobody asked for it");
        all.push(Match {
            start: steps[0].1,
            complete,
            steps,
        });
    }
}

#[test]
fn finds_what_the_definition_says() {
    for seed in 0..6_000 {
        let mut random = Random::new(seed);
        let pattern = pattern(&mut random);
        let rows = rows(&mut random);
        let mut found = run(&pattern, &rows);
        found.sort();
        found.dedup();
        let expected = matches(&pattern, &rows);
        assert_eq!(found, expected, "seed {seed}: {} {rows:?}", shown(&pattern));
    }
}

#[test]
fn skips_what_the_strategy_says() {
    for seed in 0..4_000 {
        let mut random = Random::new(seed);
        let mut pattern = pattern(&mut random);
        let taken = pattern
            .elements
            .iter()
            .filter(|element| element.is_taken() && element.children == 0);
        let stages = taken.map(|element| element.name.clone()).collect::<Vec<_>>();
        let stage = stages[random.below(stages.len() as u64) as usize].clone();
        pattern.after_match = match random.below(4) {
            0 => AfterMatch::SkipToNext,
            1 => AfterMatch::SkipPastLast,
            2 => AfterMatch::SkipToFirst(stage),
            _ => AfterMatch::SkipToLast(stage),
        };
        // A match waits for those that began before it: without a time for ever.
        pattern.within_ms = pattern.within_ms.or(Some(4));
        let rows = rows(&mut random);
        let mut left = matches(&pattern, &rows);
        check_skipping(seed, &pattern, &run(&pattern, &rows), &mut left);
    }
}

/// Matches must come in the order of their first rows, then of their completion; each takes others with it.
fn check_skipping(seed: u64, pattern: &PatternDecl, found: &[Match], left: &mut Vec<Match>) {
    let mut seen: BTreeMap<&Match, usize> = BTreeMap::new();
    for found in found {
        let times = seen.entry(found).or_default();
        *times += 1;
        let place = left.iter().position(|other| other.steps == found.steps);
        if place.is_none() && *times > 1 {
            // A pattern that can be written out in two ways finds the same twice.
            continue;
        }
        let place = place.unwrap_or_else(|| panic!("seed {seed}: {found:?} was skipped: {}", shown(pattern)));
        let first = &left[0];
        let next = &left[place];
        assert_eq!(
            (next.start, next.complete),
            (first.start, first.complete),
            "seed {seed}: {}",
            shown(pattern)
        );
        let upto = skipped(pattern, found);
        left.remove(place);
        left.retain(|other| upto.is_none_or(|upto| other.start > upto));
    }
    assert!(
        left.is_empty(),
        "seed {seed}: {left:?} is missing of {}, found {found:?}",
        shown(pattern)
    );
}

/// The last row with which nothing else may begin.
fn skipped(pattern: &PatternDecl, found: &Match) -> Option<usize> {
    let stage = |name: &String| {
        pattern
            .elements
            .iter()
            .position(|element| element.name == *name)
            .unwrap()
    };
    let mut rows = found.steps.iter();
    match &pattern.after_match {
        AfterMatch::NoSkip => None,
        AfterMatch::SkipToNext => Some(found.start),
        AfterMatch::SkipPastLast => rows.next_back().map(|step| step.1),
        AfterMatch::SkipToFirst(name) => rows.find(|step| step.0 == stage(name))?.1.checked_sub(1),
        AfterMatch::SkipToLast(name) => rows.rfind(|step| step.0 == stage(name))?.1.checked_sub(1),
    }
}
