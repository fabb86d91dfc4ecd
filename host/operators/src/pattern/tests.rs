//! The operator over keys, blocks and watermarks, with snapshots in between, against the matcher over the sorted rows of each key.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use millrace_core::Result;
use millrace_core::block::{Block, Millis, WATERMARK_MAX, WATERMARK_MIN};
use millrace_core::function::{Candidates, MatchPaths, Matches, PatternFunction, RowConditions};
use millrace_core::graph::{AfterMatch, Connection, Contiguity, PatternDecl, PatternElement};
use millrace_core::pattern::state_decl;
use millrace_pattern::{Incoming, Key, Matcher, NO_NODE, Place, Program};

use self::random::pattern;
use crate::KeyedOperator;
use crate::pattern::PatternOperator;
use crate::testing::Random;
use crate::tree_tier::TreeTier;

#[path = "../../../pattern/src/tests/random.rs"]
mod random;

/// A match: key, time, whether it ran out of time, and stage and id of each row.
type Line = (i64, Millis, bool, Vec<(u32, i64)>);

#[derive(Debug, Clone, Copy)]
struct Event {
    key: i64,
    id: i64,
    time: Millis,
    holds: i64,
}

/// The condition that looks at other rows.
const ITERATIVE: u32 = 3;

fn iterative(id: i64, before: &[i64]) -> bool {
    (id + before.iter().sum::<i64>()) % 3 != 0
}

fn schema() -> SchemaRef {
    let column = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![column("key"), column("id"), column("holds")]))
}

fn column(rows: &Block, index: usize) -> &[i64] {
    rows.rows.column(index).as_primitive::<Int64Type>().values()
}

fn path(paths: &MatchPaths, index: usize) -> std::ops::Range<usize> {
    let start = index.checked_sub(1).map_or(0, |before| paths.ends[before]);
    start as usize..paths.ends[index] as usize
}

/// Conditions are a column; what goes out is kept.
#[derive(Default)]
struct Guest {
    lines: Vec<Line>,
    late: Vec<i64>,
    /// Whether rows are set aside.
    careful: bool,
    /// Rows of equal time are ordered.
    ordered: bool,
    aside: Vec<u32>,
}

/// What a row is ordered by among those of equal time; some are equal, some have no bytes.
fn order(id: i64) -> Vec<u8> {
    vec![255 - (id % 4) as u8; (id * 7 % 3) as usize]
}

/// Whether a row is set aside when it comes, and when other rows are looked at for it.
fn is_set_aside(id: i64) -> (bool, bool) {
    (id % 7 == 3, id % 5 == 2)
}

impl PatternFunction for Guest {
    fn conditions(&mut self, rows: &Block) -> Result<RowConditions> {
        let aside = (0..)
            .zip(column(rows, 1))
            .filter(|(_, id)| self.careful && is_set_aside(**id).0);
        self.aside = aside.map(|(row, _)| row).collect();
        let mut conditions = RowConditions {
            holds: column(rows, 2).iter().map(|holds| *holds as u64).collect(),
            ..RowConditions::default()
        };
        for id in column(rows, 1).iter().filter(|_| self.ordered) {
            conditions.order.extend(order(*id));
            conditions.order_ends.push(conditions.order.len() as u32);
        }
        Ok(conditions)
    }

    fn iterative_conditions(&mut self, rows: &Block, candidates: &Candidates) -> Result<Vec<bool>> {
        let ids = column(rows, 1);
        let aside = candidates.rows.iter().copied();
        let aside = aside.filter(|row| self.careful && is_set_aside(ids[*row as usize]).1);
        self.aside = aside.collect();
        self.aside.dedup();
        let asked = candidates.rows.iter().zip(&candidates.conditions).enumerate();
        let answers = asked.map(|(index, (row, condition))| {
            assert_eq!(*condition, ITERATIVE);
            let before = &candidates.paths.members[path(&candidates.paths, index)];
            let before = before.iter().map(|row| ids[*row as usize]).collect::<Vec<_>>();
            iterative(ids[*row as usize], &before)
        });
        Ok(answers.collect())
    }

    fn select(&mut self, rows: &Block, matches: &Matches) -> Result<()> {
        for index in 0..matches.times.len() {
            let range = path(&matches.paths, index);
            let steps = matches.paths.stages[range.clone()].iter().copied();
            let ids = matches.paths.members[range.clone()]
                .iter()
                .map(|row| column(rows, 1)[*row as usize]);
            let key = column(rows, 0)[matches.paths.members[range.start] as usize];
            let line = (
                key,
                matches.times[index],
                matches.timed_out[index],
                steps.zip(ids).collect(),
            );
            self.lines.push(line);
        }
        Ok(())
    }

    fn put_out(&mut self, _port: u32, rows: Block) {
        self.late.extend(column(&rows, 1));
    }

    fn take_set_aside(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.aside)
    }
}

fn block(events: &[Event]) -> Block {
    let column = |of: fn(&Event) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(events.iter().map(of))) };
    let columns = vec![
        column(|event| event.key),
        column(|event| event.id),
        column(|event| event.holds),
    ];
    Block {
        rows: RecordBatch::try_new(schema(), columns).unwrap(),
        times: Some(events.iter().map(|event| event.time).collect()),
        keys: None,
    }
}

/// What there is at one time.
struct Subject {
    keyed: KeyedOperator,
    pattern: PatternOperator,
}

impl Subject {
    fn new(decl: &PatternDecl) -> Self {
        let key = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]));
        let mut keyed = KeyedOperator::new(key, 1, false).unwrap();
        keyed.track_changes(&[state_decl(&schema(), Vec::new()).field()], 128);
        let pattern = PatternOperator::new(decl, &schema()).unwrap();
        Subject { keyed, pattern }
    }

    fn watermark(&mut self, watermark: Millis, guest: &mut Guest) {
        self.pattern.set_moment(watermark, 0);
        self.keyed.handle_watermark(watermark);
        while self.keyed.fire(&mut self.pattern.with(guest)).unwrap() {}
    }

    /// Snapshots since the last, oldest first.
    fn snapshot(&mut self, full: bool, layers: &mut Vec<RecordBatch>, guest: &mut Guest) {
        self.keyed.begin_snapshot(full).unwrap();
        let delta = loop {
            self.keyed.export_some(3, &mut self.pattern.with(guest)).unwrap();
            if let Some(delta) = self.keyed.finish_snapshot() {
                break delta;
            }
        };
        if delta.full {
            layers.clear();
        }
        layers.extend(delta.batches);
    }

    fn restored(decl: &PatternDecl, layers: &[RecordBatch], watermark: Millis, guest: &mut Guest) -> Self {
        let mut subject = Subject::new(decl);
        subject.pattern.set_moment(watermark, 0);
        subject.keyed.restore_watermark(watermark);
        for batch in layers {
            subject.keyed.restore(batch, &mut subject.pattern.with(guest)).unwrap();
        }
        subject
    }
}

/// The rows of each key in order, straight through the matcher. Which are not too late is known.
fn expected(decl: &PatternDecl, events: &[Event], careful: bool) -> Vec<Line> {
    let mut keys: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    let taken = events.iter().filter(|event| !careful || !is_set_aside(event.id).0);
    for event in taken {
        keys.entry(event.key).or_default().push(*event);
    }
    let mut lines = Vec::new();
    for (number, mut rows) in keys {
        match decl.orders_equal_times {
            true => rows.sort_by_key(|event| (event.time, order(event.id))),
            false => rows.sort_by_key(|event| event.time),
        }
        let (mut matcher, mut key) = (Matcher::new(Program::compile(decl).unwrap()), Key::default());
        for (index, event) in rows.iter().enumerate() {
            matcher.advance(&mut key, event.time);
            let place = Place {
                batch: 0,
                row: index as u32,
            };
            let mut incoming = Incoming::new(place, event.time, event.holds as u64);
            let mut answers = Vec::new();
            matcher.asks(&key, event.holds as u64, &mut |node, _| {
                let ids = match node {
                    NO_NODE => Vec::new(),
                    node => matcher
                        .buffer
                        .path(node)
                        .map(|(_, node)| id(&matcher, &rows, node.event))
                        .collect(),
                };
                answers.push(iterative(event.id, &ids));
            });
            if answers.is_empty() || !careful || !is_set_aside(event.id).1 {
                matcher.step(&mut key, &mut incoming, answers.into_iter());
            }
            matcher.buffer.end(incoming);
        }
        matcher.advance(&mut key, WATERMARK_MAX);
        for found in std::mem::take(&mut matcher.found) {
            let path = matcher.buffer.path(found.node);
            let steps = path.map(|(_, node)| (u32::from(node.stage), id(&matcher, &rows, node.event)));
            let mut steps = steps.collect::<Vec<_>>();
            steps.reverse();
            lines.push((number, found.time, found.timed_out, steps));
        }
    }
    lines.sort();
    lines
}

fn id(matcher: &Matcher, rows: &[Event], event: u32) -> i64 {
    rows[matcher.buffer.event(event).place.row as usize].id
}

#[test]
fn keys_blocks_and_snapshots_make_no_difference() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut decl = pattern(&mut random);
        decl.conditions[ITERATIVE as usize] = random.below(2) == 0;
        decl.timeouts = random.below(2) == 0;
        decl.late_port = Some(0);
        // Without a time loops have more and more matches.
        decl.within_ms = decl.within_ms.or(Some(6));
        let (mut guest, mut layers) = (Guest::default(), Vec::new());
        guest.careful = random.below(3) == 0;
        decl.orders_equal_times = random.below(3) == 0;
        guest.ordered = decl.orders_equal_times;
        let mut subject = Subject::new(&decl);
        let (mut watermark, mut in_time, mut late) = (WATERMARK_MIN, Vec::new(), Vec::new());
        for turn in 0..12 {
            let events = (0..random.below(8)).map(|row| Event {
                key: random.below(3) as i64,
                id: turn * 100 + row as i64,
                time: turn * 2 + random.below(6) as i64,
                holds: (random.below(16) & random.below(16)) as i64,
            });
            let events = events.collect::<Vec<_>>();
            for event in &events {
                if event.time > watermark {
                    in_time.push(*event)
                } else {
                    late.push(event.id)
                }
            }
            subject.pattern.set_moment(watermark, 0);
            let admitted = subject.pattern.admit(&block(&events), &mut guest).unwrap();
            let keys = [admitted.rows.column(0).clone()];
            let calls = &mut subject.pattern.with(&mut guest);
            subject.keyed.handle_block(0, &keys, &admitted, calls).unwrap();
            if random.below(3) > 0 {
                watermark = watermark.max(turn * 2 - random.below(3) as i64);
                subject.watermark(watermark, &mut guest);
            }
            if random.below(3) == 0 {
                let full = layers.is_empty() || random.below(4) == 0;
                subject.snapshot(full, &mut layers, &mut guest);
                if random.below(2) == 0 {
                    subject = Subject::restored(&decl, &layers, watermark, &mut guest);
                    layers.clear();
                }
            }
        }
        subject.watermark(WATERMARK_MAX, &mut guest);
        guest.lines.sort();
        assert_eq!(guest.lines, expected(&decl, &in_time, guest.careful), "seed {seed}");
        assert_eq!(guest.late, late, "seed {seed}");
        assert_eq!(subject.keyed.slot_count(), 0, "seed {seed}: keys are kept for nothing");
        assert_eq!(subject.pattern.matcher.buffer.event_count(), 0, "seed {seed}");
    }
}

/// Any two rows that follow each other, ordered where their times are equal.
fn ordered_pairs() -> PatternDecl {
    let stage = |name: &str| PatternElement {
        name: name.to_owned(),
        connection: Connection::Next,
        condition: None,
        least: 1,
        most: Some(1),
        optional: false,
        repeated: Contiguity::Relaxed,
        greedy: false,
        until: None,
        children: 0,
    };
    PatternDecl {
        elements: vec![stage("a"), stage("b")],
        conditions: Vec::new(),
        within_ms: None,
        within_gap_ms: None,
        after_match: AfterMatch::NoSkip,
        timeouts: false,
        late_port: None,
        partial_matches_max: 10,
        orders_equal_times: true,
    }
}

/// Rows of a key, which have no time.
fn give(subject: &mut Subject, guest: &mut Guest, now: Millis, key: i64, ids: &[i64]) {
    let event = |id: &i64| Event {
        key,
        id: *id,
        time: 0,
        holds: 0,
    };
    let block = Block {
        times: None,
        ..block(&ids.iter().map(event).collect::<Vec<_>>())
    };
    subject.pattern.set_moment(WATERMARK_MIN, now);
    let admitted = subject.pattern.admit(&block, guest).unwrap();
    let keys = [admitted.rows.column(0).clone()];
    let calls = &mut subject.pattern.with(guest);
    subject.keyed.handle_block(0, &keys, &admitted, calls).unwrap();
}

/// Those of keys that have gone to a lower tier as well.
#[test]
fn rows_below_are_matched_at_the_end_of_the_input() {
    let decl = ordered_pairs();
    let mut subject = Subject::new(&decl);
    let states = [state_decl(&schema(), Vec::new()).field()];
    let tier = Box::new(TreeTier::new(false));
    subject.keyed.set_lower_tier(tier, &states, 128, 2).unwrap();
    let mut guest = Guest {
        ordered: true,
        ..Guest::default()
    };
    for key in 0..5 {
        give(&mut subject, &mut guest, 7, key, &[10 * key, 10 * key + 1]);
    }
    assert!(subject.pattern.waiting.len() < 10, "some rows are below");
    subject.watermark(WATERMARK_MAX, &mut guest);
    let mut keys = guest.lines.iter().map(|line| line.0).collect::<Vec<_>>();
    keys.sort_unstable();
    assert_eq!(keys, [0, 1, 2, 3, 4]);
}

/// Without event time rows of a millisecond wait for its end, or for that of the input, also over a snapshot.
#[test]
fn rows_of_a_millisecond_are_ordered() {
    let decl = ordered_pairs();
    let mut subject = Subject::new(&decl);
    let mut guest = Guest {
        ordered: true,
        ..Guest::default()
    };
    let give = |subject: &mut Subject, guest: &mut Guest, now: Millis, ids: &[i64]| give(subject, guest, now, 1, ids);
    let tick = |subject: &mut Subject, guest: &mut Guest, now: Millis| {
        subject.pattern.set_moment(WATERMARK_MIN, now);
        subject.keyed.handle_time(now);
        while subject.keyed.fire(&mut subject.pattern.with(guest)).unwrap() {}
        let lines = std::mem::take(&mut guest.lines).into_iter();
        let pair = |line: Line| (line.1, line.3.iter().map(|step| step.1).collect::<Vec<_>>());
        lines.map(pair).collect::<Vec<_>>()
    };
    // In the order of their bytes: 6 (none), 10, 5, 4.
    give(&mut subject, &mut guest, 7, &[4, 5, 6]);
    give(&mut subject, &mut guest, 7, &[10]);
    assert_eq!(subject.pattern.next_processing_time(), Some(8));
    assert_eq!(tick(&mut subject, &mut guest, 7), []);
    let mut layers = Vec::new();
    subject.snapshot(true, &mut layers, &mut guest);
    let mut subject = Subject::restored(&decl, &layers, WATERMARK_MIN, &mut guest);
    assert_eq!(subject.pattern.next_processing_time(), Some(8));
    let expected = [(7, vec![6, 10]), (7, vec![10, 5]), (7, vec![5, 4])];
    let mut ids = vec![4, 5, 6, 10];
    ids.sort_by_key(|id| order(*id));
    assert_eq!(ids, [6, 10, 5, 4]);
    assert_eq!(tick(&mut subject, &mut guest, 8), expected);
    give(&mut subject, &mut guest, 8, &[11]);
    subject.watermark(WATERMARK_MAX, &mut guest);
    assert_eq!(tick(&mut subject, &mut guest, 8), [(8, vec![4, 11])]);
}
