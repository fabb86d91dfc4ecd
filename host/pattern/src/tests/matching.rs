//! Random patterns over random rows.

use std::collections::BTreeMap;

use super::model::{Match, Row, matches};
use super::random::{CONDITIONS, pattern};
use crate::testing::Random;
use crate::{
    AfterMatch, Incoming, Key, Matcher, Node, PatternDecl, PatternElement, Place, Program, Stored, StoredCompleted,
    StoredNode, StoredPartial,
};

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
    run_with(pattern, rows, |_, _| {})
}

/// The same, with something done before each row.
fn run_with(pattern: &PatternDecl, rows: &[Row], mut between: impl FnMut(&mut Matcher, &mut Key)) -> Vec<Match> {
    let program = Program::compile(pattern).unwrap();
    let stages = pattern.elements.iter().enumerate();
    let stages = stages.filter(|(_, element)| element.is_taken() && element.children == 0);
    let stages = stages.map(|(index, _)| index).collect::<Vec<_>>();
    let (mut matcher, mut key) = (Matcher::new(program), Key::default());
    let mut all = Vec::new();
    for (number, row) in (0..).zip(rows.iter().map(Some).chain([None])) {
        between(&mut matcher, &mut key);
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

/// What is stored of a key and taken up by another matcher goes on as if nothing had been.
#[test]
fn what_was_stored_goes_on() {
    for seed in 0..4_000 {
        let mut random = Random::new(seed);
        let mut pattern = pattern(&mut random);
        pattern.within_ms = pattern.within_ms.or(Some(4));
        if random.below(2) == 0 {
            pattern.after_match = AfterMatch::SkipPastLast;
        }
        let rows = rows(&mut random);
        let mut stored = Stored::default();
        let restored = run_with(&pattern, &rows, |matcher, key| {
            if random.below(2) == 0 {
                return;
            }
            stored.set(key, &matcher.buffer);
            *matcher = Matcher::new(matcher.program.clone());
            let (taken_up, events) = matcher.restore(&stored).expect("it is of this pattern");
            *key = taken_up;
            assert_eq!(events.len(), stored.rows.len());
            let mut again = Stored::default();
            again.set(key, &matcher.buffer);
            assert_eq!(again, stored, "seed {seed}");
        });
        assert_eq!(restored, run(&pattern, &rows), "seed {seed}: {}", shown(&pattern));
    }
}

/// What names rows or places that are not there is refused, whatever it names.
#[test]
fn what_makes_no_sense_is_refused() {
    let pattern = pattern(&mut Random::new(1));
    let mut matcher = Matcher::new(Program::compile(&pattern).unwrap());
    let edges = matcher.program.positions[0].edges.len() as u32;
    assert!(edges > 0, "{}", shown(&pattern));
    let node = StoredNode {
        row: 0,
        stage: 0,
        parent: None,
    };
    let partial = StoredPartial {
        position: 0,
        edges: 1,
        node: 0,
    };
    let good = Stored {
        rows: vec![(Place::default(), 7)],
        nodes: vec![node],
        partials: vec![partial],
        completed: vec![StoredCompleted { node: 0, time: 7 }],
    };
    let (key, events) = matcher.restore(&good).expect("it makes sense");
    assert_eq!((key.partials.len(), key.completed().len(), events.len()), (1, 1, 1));
    matcher.forget(&key);
    assert_eq!(matcher.buffer.event_count(), 0);
    type Change = fn(&mut Stored, u32);
    let changes: [Change; 8] = [
        |bad, _| bad.nodes[0].row = 1,
        |bad, _| bad.nodes[0].stage = 100,
        |bad, _| bad.nodes[0].parent = Some(0),
        |bad, _| bad.partials[0].node = 1,
        |bad, _| bad.partials[0].position = 1_000,
        |bad, _| bad.partials[0].edges = 0,
        |bad, edges| bad.partials[0].edges = 1 << edges,
        |bad, _| bad.completed[0].node = 1,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad, edges);
        assert!(matcher.restore(&bad).is_none(), "change {number}");
        assert_eq!(matcher.buffer.event_count(), 0);
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
