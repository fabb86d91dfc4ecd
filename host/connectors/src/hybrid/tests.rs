//! A hybrid source under random schedules, checkpoints that reach subtasks at different times, crashes and rescaling:
//! every row once, and no row of the second source before the last one of the first.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Field, Schema};
use millrace_core::connector::{Enumerated, Poll, Position};

use super::*;
use crate::testing::{context, options};

/// As `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) >> 11) as usize % end
    }
}

/// What the engine keeps of a subtask.
struct Subtask {
    readers: BTreeMap<String, Box<dyn SplitReader>>,
    ended: BTreeMap<String, Position>,
    enumerating: bool,
    rows: Vec<i64>,
}

type Snapshot = (Vec<Split>, Vec<i64>);

impl Subtask {
    fn open(source: &dyn Source, splits: &[(u32, Split)], index: u32, parallelism: u32) -> Subtask {
        let mine = splits.iter().filter(|(subtask, _)| *subtask == index);
        let open = |split: &Split| source.open(split, &context(index, parallelism)).unwrap();
        Subtask {
            readers: mine.map(|(_, split)| (split.id.clone(), open(split))).collect(),
            ended: BTreeMap::new(),
            enumerating: true,
            rows: Vec::new(),
        }
    }

    fn step(&mut self, source: &dyn Source, enumerator: &dyn SplitEnumerator, index: u32, random: &mut Random) {
        if self.enumerating && random.below(2) == 0 {
            let told = enumerator.poll(index, Duration::ZERO).unwrap();
            for split in told.splits {
                let reader = source.open(&split, &context(index, 1)).unwrap();
                assert!(
                    self.readers.insert(split.id.clone(), reader).is_none(),
                    "{} twice",
                    split.id
                );
            }
            self.enumerating = told.next.is_some();
        }
        if self.readers.is_empty() {
            return;
        }
        let id = self
            .readers
            .keys()
            .nth(random.below(self.readers.len()))
            .unwrap()
            .clone();
        match self.readers.get_mut(&id).unwrap().poll(3, Duration::ZERO).unwrap() {
            Poll::Rows(rows) => self
                .rows
                .extend(rows.rows.column(0).as_primitive::<Int64Type>().values()),
            Poll::Pending { .. } => {}
            Poll::End => {
                let reader = self.readers.remove(&id).unwrap();
                enumerator.handle_end(&id);
                self.ended.insert(id, reader.position());
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let reading = self.readers.iter().map(|(id, reader)| (id.clone(), reader.position()));
        let ended = self.ended.iter().map(|(id, position)| (id.clone(), position.clone()));
        let splits = reading.chain(ended).map(|(id, position)| Split { id, position });
        (splits.collect(), self.rows.clone())
    }

    fn is_done(&self) -> bool {
        !self.enumerating && self.readers.is_empty()
    }
}

fn hybrid(pairs: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    Ok(HybridConnector.source(options(pairs), schema)?.unwrap())
}

/// Runs it with crashes; all rows that checkpoints hold.
fn run(source: &dyn Source, random: &mut Random) -> Vec<i64> {
    let mut parallelism = 1 + random.below(3) as u32;
    let mut splits = source.splits(parallelism).unwrap();
    let mut rows = Vec::new();
    for crashes in 0.. {
        let dealt: Vec<(u32, Split)> = (0..parallelism).cycle().zip(splits.clone()).collect();
        let enumerator = source.enumerator(&dealt, parallelism).unwrap().unwrap();
        let open = |index| Subtask::open(source, &dealt, index, parallelism);
        let mut subtasks: Vec<Subtask> = (0..parallelism).map(open).collect();
        // Snapshots of the last complete checkpoint, and of one that is being taken.
        let (mut complete, mut taking): (Option<Vec<Snapshot>>, BTreeMap<usize, Snapshot>) = (None, BTreeMap::new());
        let steps = if crashes < 8 { random.below(60) } else { usize::MAX };
        for _ in 0..steps {
            let index = random.below(subtasks.len());
            if random.below(3) == 0 {
                taking.entry(index).or_insert_with(|| subtasks[index].snapshot());
                if taking.len() == subtasks.len() {
                    complete = Some(std::mem::take(&mut taking).into_values().collect());
                }
            }
            subtasks[index].step(source, enumerator.as_ref(), index as u32, random);
            if subtasks.iter().all(Subtask::is_done) {
                rows.extend(subtasks.into_iter().flat_map(|subtask| subtask.rows));
                return rows;
            }
        }
        if let Some(snapshots) = complete {
            splits = snapshots.iter().flat_map(|(splits, _)| splits.clone()).collect();
            rows.extend(snapshots.into_iter().flat_map(|(_, rows)| rows));
        }
        if crashes % 2 == 1 {
            parallelism = 1 + random.below(3) as u32;
        }
    }
    unreachable!("the last life is long enough")
}

#[test]
fn every_row_comes_once_whatever_happens() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut number = 0..;
        let mut write = |stage: &str, files: usize, random: &mut Random| {
            for file in 0..files {
                let mut text = String::new();
                for n in number.by_ref().take(random.below(20)) {
                    writeln!(text, "{{\"n\":{n}}}").unwrap();
                }
                std::fs::write(folder.path().join(format!("{stage}{file}.ndjson")), text).unwrap();
            }
            number.start
        };
        let firsts = write("a", 1 + random.below(3), &mut random);
        let seconds = write("b", 1 + random.below(3), &mut random);
        let end = write("c", 1 + random.below(3), &mut random);
        let glob = |stage: &str| format!("{}/{stage}*", folder.path().display());
        let (a, b, c) = (glob("a"), glob("b"), glob("c"));
        let source = hybrid(&[
            ("first.kind", "hybrid"),
            ("first.first.kind", "files"),
            ("first.first.path", &a),
            ("first.first.format", "ndjson"),
            ("first.then.kind", "files"),
            ("first.then.path", &b),
            ("first.then.format", "ndjson"),
            ("then.kind", "files"),
            ("then.path", &c),
            ("then.format", "ndjson"),
        ]);
        let mut rows = run(source.unwrap().as_ref(), &mut random);
        assert!(firsts <= seconds && seconds <= end);
        rows.sort_unstable();
        assert_eq!(rows, (0..end).collect::<Vec<i64>>(), "seed {seed}");
    }
}

#[test]
fn the_second_source_waits_for_all_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a0", "a1", "b0"] {
        std::fs::write(folder.path().join(name), "{\"n\":1}\n").unwrap();
    }
    let at = |name: &str| format!("{}/{name}", folder.path().display());
    let (a, b) = (at("a*"), at("b*"));
    let source = hybrid(&[
        ("first.kind", "files"),
        ("first.path", &a),
        ("first.format", "ndjson"),
        ("then.kind", "files"),
        ("then.path", &b),
        ("then.format", "ndjson"),
        ("then.mode", "follow"),
    ])
    .unwrap();
    assert_eq!(source.boundedness(), Boundedness::Unbounded);
    let splits = source.splits(2).unwrap();
    let enumerator = source
        .enumerator(&[(0, splits[0].clone()), (1, splits[1].clone())], 2)
        .unwrap()
        .unwrap();
    let poll = |subtask| enumerator.poll(subtask, Duration::ZERO).unwrap();
    assert_eq!(
        (poll(0).splits.len(), poll(0).next),
        (0, Some(Duration::from_millis(20)))
    );
    enumerator.handle_end(&splits[1].id);
    assert!(poll(1).splits.is_empty());
    enumerator.handle_end(&splits[0].id);
    let told = poll(1);
    assert_eq!(told.next, Some(Duration::from_secs(1)));
    let given: Vec<Split> = told.splits.into_iter().chain(poll(0).splits).collect();
    assert!(given.len() == 1 && given[0].id.starts_with("then:"), "{given:?}");
}

/// What a source was told of complete checkpoints, by split.
#[derive(Default, Clone)]
struct Told(Arc<Mutex<Vec<(String, Position)>>>);

impl Told {
    fn take(&self) -> Vec<(String, Position)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Source for Told {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, _: u32) -> Result<Vec<Split>> {
        let (id, position) = ("a".to_owned(), Position::START);
        Ok(vec![Split { id, position }])
    }

    fn enumerator(&self, _: &[(u32, Split)], _: u32) -> Result<Option<Arc<dyn SplitEnumerator>>> {
        Ok(Some(Arc::new(self.clone())))
    }

    fn open(&self, _: &Split, _: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(self.clone()))
    }
}

impl SplitEnumerator for Told {
    fn poll(&self, _: u32, _: Duration) -> Result<Enumerated> {
        Ok(Enumerated::default())
    }

    fn pending(&self) -> Vec<String> {
        Vec::new()
    }

    fn handle_end(&self, _: &str) {}

    fn handle_complete(&self, _: u32, splits: &[Split]) -> Result<()> {
        let splits = splits.iter().cloned();
        let told = splits.map(|split| (format!("enumerator {}", split.id), split.position));
        self.0.lock().unwrap().extend(told);
        Ok(())
    }
}

impl SplitReader for Told {
    fn poll(&mut self, _: usize, _: Duration) -> Result<Poll> {
        Ok(Poll::Pending { wake_after: None })
    }

    fn position(&self) -> Position {
        Position(vec![7])
    }

    fn handle_complete(&mut self, position: &Position) -> Result<()> {
        self.0.lock().unwrap().push(("reader".to_owned(), position.clone()));
        Ok(())
    }
}

/// Each source is told of its own splits, in its own words.
#[test]
fn both_sources_hear_of_complete_checkpoints() {
    let (first, then) = (Told::default(), Told::default());
    let hybrid = Hybrid {
        first: Arc::new(first.clone()),
        then: Arc::new(then.clone()),
    };
    let splits = hybrid.splits(1).unwrap();
    let enumerator = hybrid.enumerator(&[(0, splits[0].clone())], 1).unwrap().unwrap();
    let complete = |split: &Split| {
        let mut reader = hybrid.open(split, &context(0, 1)).unwrap();
        let position = reader.position();
        reader.handle_complete(&position).unwrap();
        let id = split.id.clone();
        enumerator.handle_complete(0, &[Split { id, position }]).unwrap();
    };
    let told = [
        ("reader".to_owned(), Position(vec![7])),
        ("enumerator a".to_owned(), Position(vec![7])),
    ];
    complete(&splits[0]);
    assert_eq!((first.take(), then.take()), (told.to_vec(), vec![]));
    enumerator.handle_end(&splits[0].id);
    let given = enumerator.poll(0, Duration::ZERO).unwrap().splits;
    complete(&given[0]);
    assert_eq!((first.take(), then.take()), (vec![], told.to_vec()));
}

#[test]
fn what_is_wrong_is_named() {
    for (pairs, code, says) in [
        (vec![("then.kind", "stdin")], "CN0002", "first.kind"),
        (
            vec![("first.kind", "files"), ("then.kind", "stdin")],
            "CN0002",
            "options `first.*`",
        ),
        (
            vec![("first.kind", "stdin"), ("then.kind", "stdout")],
            "CN0119",
            "stdout",
        ),
        (
            vec![("first.kind", "stdin"), ("then.kind", "kafka")],
            "CN0101",
            "then.*",
        ),
        (
            vec![("first.kind", "stdin"), ("then.kind", "stdin"), ("path", "x")],
            "CN0004",
            "path",
        ),
    ] {
        let mut pairs = pairs;
        pairs.extend([("first.format", "ndjson"), ("then.format", "ndjson")]);
        let error = hybrid(&pairs).err().unwrap();
        assert!(
            error.code() == code && error.to_string().contains(says),
            "{pairs:?}: {error}"
        );
    }
    let endless = [
        ("first.kind", "generator"),
        ("first.column.n", "index"),
        ("then.kind", "stdin"),
        ("then.format", "ndjson"),
    ];
    assert_eq!(hybrid(&endless).err().unwrap().code(), "CN0118");
}
