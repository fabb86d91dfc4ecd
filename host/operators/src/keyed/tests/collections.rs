//! Large maps and lists against trees, with snapshots and restores in between, at other parallelisms too.
//!
//! The double of the guest reads in each call what the model says was there when the call began, and writes at random.
//! Entries live for ever, or for a time that is another one after a restore.

mod singly;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use arrow_array::builder::{Int64Builder, StringBuilder};
use arrow_array::{StringArray, UInt32Array};
use arrow_select::filter::filter_record_batch;
use millrace_core::backend::SortedTier;
use millrace_core::collections::{CollectionSchema, CollectionWrites, SharedCollections, WriteAction};
use millrace_core::graph::{Renewal, TimeToLive};
use millrace_core::key::{KeyGroup, KeyGroups};

use super::*;
use crate::tree_tier::TreeTier;

const GROUPS: u32 = 16;

/// Values, and when they expire.
type Map = BTreeMap<(i64, String), (i64, Millis)>;
type Lists = BTreeMap<i64, Vec<(i64, Millis)>>;

/// Entries by key; what a call sees.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    map: Map,
    lists: Lists,
}

impl Model {
    fn expire(&mut self, now: Millis) {
        self.map.retain(|_, (_, expires)| *expires > now);
        self.lists
            .values_mut()
            .for_each(|list| list.retain(|item| item.1 > now));
        self.lists.retain(|_, list| !list.is_empty());
    }
}

/// How long entries live.
#[derive(Debug, Clone, Copy)]
struct Lives(Option<TimeToLive>);

impl Lives {
    fn random(random: &mut Random) -> Self {
        let renewed_by = if random.below(2) == 0 {
            Renewal::Write
        } else {
            Renewal::ReadOrWrite
        };
        Lives(Some(TimeToLive {
            after_ms: 100 + random.below(900) as Millis,
            renewed_by,
        }))
    }

    /// When what is written now expires.
    fn written(self, now: Millis) -> Millis {
        self.0.map_or(Millis::MAX, |ttl| now + ttl.after_ms)
    }

    fn read(self, now: Millis, expires: &mut Millis) {
        if let Some(ttl) = self.0
            && ttl.renewed_by == Renewal::ReadOrWrite
            && *expires <= now + ttl.after_ms - ttl.after_ms / 20
        {
            *expires = now + ttl.after_ms;
        }
    }
}

fn collection_schemas(lives: Lives) -> [CollectionSchema; 2] {
    let pair = vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Int64, false),
    ];
    let entries = Field::new("entries", DataType::Struct(pair.into()), false);
    let map = Field::new("map", DataType::Map(Arc::new(entries), false), true);
    let list = Field::new_list("list", Field::new_list_field(DataType::Int64, true), true);
    [map, list].map(|field| CollectionSchema {
        ttl: lives.0,
        ..CollectionSchema::of(&field).unwrap()
    })
}

/// Reads and writes large states alone; its slots never hold anything.
struct Writer {
    /// Keys that have had their turn.
    turns: Vec<i64>,
    random: Random,
    collections: SharedCollections,
    model: Model,
    lives: Lives,
    now: Millis,
}

impl Writer {
    fn check_reads(&mut self, keys: &[i64]) {
        self.model.expire(self.now);
        let collections = self.collections.clone();
        let mut collections = collections.borrow_mut();
        assert_eq!(collections.entry_count(), keys.len());
        self.check_gets(keys, &mut *collections);
        self.check_scan(keys, &mut *collections);
        let all = (0..keys.len() as u32).collect::<Vec<_>>();
        let length = |key: &i64| self.model.lists.get(key).map_or(0, |list| list.len() as u64);
        let lengths = collections.list_length(1, &all).unwrap();
        assert!(lengths.into_iter().eq(keys.iter().map(length)));
        for _ in 0..3 {
            let entry = self.random.below(keys.len() as u64) as u32;
            let (start, limit) = (self.random.below(12), 1 + self.random.below(9) as usize);
            let items = collections.list_read(1, entry, start, limit, 1 << 20).unwrap();
            let mut none = Vec::new();
            let list = self.model.lists.get_mut(&keys[entry as usize]).unwrap_or(&mut none);
            let expected = list.iter_mut().skip(start as usize).take(limit);
            let expected = expected.map(|(value, expires)| {
                self.lives.read(self.now, expires);
                *value
            });
            assert!(items.as_primitive::<Int64Type>().values().iter().copied().eq(expected));
        }
    }

    fn check_gets(&mut self, keys: &[i64], collections: &mut dyn Collections) {
        let entries = (0..self.random.below(6)).map(|_| self.random.below(keys.len() as u64) as u32);
        let entries = entries.collect::<Vec<_>>();
        let asked = entries.iter().map(|_| name(&mut self.random)).collect::<Vec<_>>();
        let column = Arc::new(StringArray::from(asked.clone())) as ArrayRef;
        let (found, values) = collections.map_get(0, &entries, &column, 1 << 20).unwrap();
        let mut values = values.as_primitive::<Int64Type>().iter().flatten();
        for ((&entry, asked), found) in entries.iter().zip(asked).zip(found) {
            let expected = self.model.map.get_mut(&(keys[entry as usize], asked));
            let expected = expected.map(|(value, expires)| {
                self.lives.read(self.now, expires);
                *value
            });
            assert_eq!(found.then(|| values.next().unwrap()), expected);
        }
    }

    fn check_scan(&mut self, keys: &[i64], collections: &mut dyn Collections) {
        let entry = self.random.below(keys.len() as u64) as u32;
        let key = keys[entry as usize];
        let after = (self.random.below(2) == 0).then(|| name(&mut self.random));
        let limit = 1 + self.random.below(9) as usize;
        let column = after.clone();
        let column = column.map(|after| Arc::new(StringArray::from(vec![after])) as ArrayRef);
        let read = collections.map_scan(0, entry, column.as_ref(), limit, 1 << 20).unwrap();
        let own = self.model.map.iter_mut().filter(|((of, _), _)| *of == key);
        let behind = own.filter(|((_, name), _)| after.as_ref().is_none_or(|after| name > after));
        let mut behind = behind.collect::<Vec<_>>();
        // Behind the last there may be some that have expired.
        let more = behind.len() > limit;
        assert!(read.more == more || (self.lives.0.is_some() && read.more));
        behind.truncate(limit);
        let names = read.keys.as_string::<i32>().iter().flatten();
        let got = names.zip(read.values.as_primitive::<Int64Type>().values().iter().copied());
        let expected = behind.iter().map(|((_, name), value)| (name.as_str(), value.0));
        assert!(got.eq(expected));
        for (_, (_, expires)) in behind {
            self.lives.read(self.now, expires);
        }
    }

    fn map_writes(&mut self, keys: &[i64]) -> CollectionWrites {
        let (mut entries, mut actions) = (Vec::new(), Vec::new());
        let (mut names, mut values) = (StringBuilder::new(), Int64Builder::new());
        for _ in 0..self.random.below(12) {
            let entry = self.random.below(keys.len() as u64) as u32;
            let (key, name) = (keys[entry as usize], name(&mut self.random));
            let action = match self.random.below(12) {
                0 => {
                    self.model.map.retain(|(of, _), _| *of != key);
                    WriteAction::Clear
                }
                1..=4 => {
                    names.append_value(&name);
                    self.model.map.remove(&(key, name));
                    WriteAction::Remove
                }
                _ => {
                    let value = self.random.below(1_000) as i64;
                    names.append_value(&name);
                    values.append_value(value);
                    self.model
                        .map
                        .insert((key, name), (value, self.lives.written(self.now)));
                    WriteAction::Put
                }
            };
            entries.push(entry);
            actions.push(action);
        }
        CollectionWrites {
            state: 0,
            entries,
            actions,
            keys: Some(Arc::new(names.finish())),
            values: Arc::new(values.finish()),
        }
    }

    fn list_writes(&mut self, keys: &[i64]) -> CollectionWrites {
        let (mut entries, mut actions, mut values) = (Vec::new(), Vec::new(), Int64Builder::new());
        for _ in 0..self.random.below(8) {
            let entry = self.random.below(keys.len() as u64) as u32;
            let list = self.model.lists.entry(keys[entry as usize]).or_default();
            let action = match self.random.below(10) {
                0 => {
                    list.clear();
                    WriteAction::Clear
                }
                _ => {
                    let value = self.random.below(1_000) as i64;
                    values.append_value(value);
                    list.push((value, self.lives.written(self.now)));
                    WriteAction::Append
                }
            };
            entries.push(entry);
            actions.push(action);
        }
        self.model.lists.retain(|_, list| !list.is_empty());
        CollectionWrites {
            state: 1,
            entries,
            actions,
            keys: None,
            values: Arc::new(values.finish()),
        }
    }
}

fn name(random: &mut Random) -> String {
    "n".repeat(random.below(3) as usize) + &random.below(20).to_string()
}

stateless!(Writer);

impl KeyedFunction for Writer {
    fn process(&mut self, _: u32, _: &[Slot], rows: &Block) -> Result<Effects> {
        let keys = rows.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        self.check_reads(&keys);
        let mut collections = vec![self.map_writes(&keys), self.list_writes(&keys)];
        if self.random.below(2) == 0 {
            collections.push(self.map_writes(&keys));
        }
        let timers = (0..keys.len() as u32).map(|entry| TimerOperation {
            entry,
            time: self.random.below(1_000) as Millis,
            kind: TimerKind::EventTime,
            set: self.random.below(9) == 0,
        });
        Ok(Effects {
            timers: timers.collect(),
            collections,
            ..Effects::default()
        })
    }

    fn apply(&mut self, _: &[Slot], keys: &[ArrayRef]) -> Result<Effects> {
        let keys = keys[0].as_primitive::<Int64Type>().values().to_vec();
        self.check_reads(&keys);
        let collections = vec![self.map_writes(&keys), self.list_writes(&keys)];
        self.turns.extend(keys);
        Ok(Effects {
            collections,
            ..Effects::default()
        })
    }

    fn timers(&mut self, _: TimerKind, _: &[Slot], _: &[Millis], keys: &[ArrayRef]) -> Result<Effects> {
        let keys = keys[0].as_primitive::<Int64Type>().values().to_vec();
        self.check_reads(&keys);
        Ok(Effects {
            collections: vec![self.map_writes(&keys), self.list_writes(&keys)],
            ..Effects::default()
        })
    }
}

/// One subtask: its operator and guest, and what its snapshots have left of each state.
struct Subtask {
    operator: KeyedOperator,
    writer: Writer,
    layers: [Vec<RecordBatch>; 2],
    /// The snapshot under way, not read yet, and what was there at its barrier.
    taking: Option<(Vec<TableDelta>, Model)>,
    /// Its tiers have what has expired go some day.
    compacts: bool,
}

fn subtask(seed: u64, lives: Lives, now: Millis) -> Subtask {
    let compacts = seed.is_multiple_of(2);
    let mut operator = KeyedOperator::new(schema(), 0, false).unwrap();
    operator.track_changes(&[], GROUPS);
    let tiers = collection_schemas(lives).map(|schema| {
        let tier: Box<dyn SortedTier> = Box::new(TreeTier::new(compacts));
        (schema, tier)
    });
    let collections = operator.set_collections(tiers.into(), GROUPS).unwrap();
    operator.set_now(now);
    Subtask {
        operator,
        writer: Writer {
            turns: Vec::new(),
            random: Random::new(seed),
            collections,
            model: Model::default(),
            lives,
            now,
        },
        layers: [Vec::new(), Vec::new()],
        taking: None,
        compacts,
    }
}

impl Subtask {
    fn step(&mut self, random: &mut Random, own: &[i64], watermark: Millis) {
        let rows = 1 + random.below(10);
        let keys = (0..rows).map(|_| own[random.below(own.len() as u64) as usize]);
        let block = block(&keys.collect::<Vec<_>>());
        let Subtask { operator, writer, .. } = self;
        operator.set_now(writer.now);
        operator.handle_block(0, block.rows.columns(), &block, writer).unwrap();
        operator.handle_watermark(watermark);
        if operator.next_processing_timer().is_some_and(|next| next <= writer.now) {
            operator.handle_time(writer.now);
        }
        fire_all(operator, writer).unwrap();
    }

    fn begin_snapshot(&mut self, full: bool) {
        self.operator.begin_snapshot(full).unwrap();
        while self.operator.export_some(100, &mut self.writer).unwrap() {}
        assert!(self.operator.finish_snapshot().is_some());
        let deltas = self.operator.take_collection_snapshots();
        self.taking = Some((deltas, self.writer.model.clone()));
    }

    /// Reads the snapshot under way, and returns what must be in the layers now.
    fn finish_snapshot(&mut self) -> Model {
        let (deltas, model) = self.taking.take().unwrap();
        for (layers, delta) in self.layers.iter_mut().zip(deltas) {
            if delta.full {
                layers.clear();
            }
            if let Some(cold) = delta.cold {
                let mut read = |batch| {
                    layers.push(batch);
                    Ok(())
                };
                cold.read(&mut read).unwrap();
            }
        }
        model
    }
}

/// Keys by the subtask that owns them.
fn owned(parallelism: u32, keys: i64) -> Vec<Vec<i64>> {
    let mut owned = vec![Vec::new(); parallelism as usize];
    for key in 0..keys {
        let mut hashes = Vec::new();
        millrace_core::key::hash_rows(&[Arc::new(Int64Array::from(vec![key])) as ArrayRef], &mut hashes).unwrap();
        let group = KeyGroup::of_hash(hashes[0], GROUPS);
        owned[group.owner(parallelism, GROUPS) as usize].push(key);
    }
    owned
}

/// Rows of these key groups.
fn of_groups(batch: &RecordBatch, range: &Range<u32>) -> RecordBatch {
    let groups: &UInt32Array = batch.column(0).as_primitive();
    let own = groups.iter().map(|group| group.map(|group| range.contains(&group)));
    filter_record_batch(batch, &own.collect()).unwrap()
}

/// Restores a subtask layer by layer.
fn restore_by_layer(subtask: &mut Subtask, before: &[Subtask], groups: &Range<u32>) {
    for old in before {
        for (state, layers) in old.layers.iter().enumerate() {
            for layer in layers {
                let own = of_groups(layer, groups);
                subtask.operator.restore_collection(state, &own).unwrap();
            }
        }
    }
}

/// Restores a subtask key group by key group, in any order, with rows in between of keys whose group has come.
fn restore_by_group(
    subtask: &mut Subtask,
    before: &[Subtask],
    groups: &Range<u32>,
    own: &[i64],
    random: &mut Random,
) -> usize {
    let keys = block(own);
    let mut left = groups.clone().collect::<Vec<_>>();
    let mut steps = 0;
    subtask.operator.begin_restore_collections();
    while !left.is_empty() {
        let group = left.swap_remove(random.below(left.len() as u64) as usize);
        restore_by_layer(subtask, before, &(group..group + 1));
        subtask.operator.groups_have_come(&[group]);
        let missing = subtask.operator.missing_group(keys.rows.columns()).unwrap();
        let known = subtask.operator.find_restored(keys.rows.columns()).unwrap();
        assert_eq!(missing.is_some(), known.contains(&false));
        assert!(missing.is_none_or(|missing| left.contains(&missing)));
        let come = own.iter().zip(known).filter(|(_, known)| *known);
        let come = come.map(|(key, _)| *key).collect::<Vec<_>>();
        if !come.is_empty() && random.below(2) == 0 {
            subtask.step(random, &come, 0);
            steps += 1;
        }
    }
    subtask.operator.end_restore_collections();
    steps
}

/// Starts again with as many subtasks, from the layers of all, by layer or by group.
fn restored(
    before: &[Subtask],
    models: Vec<Model>,
    (parallelism, by_group): (u32, bool),
    seed: u64,
    lives: Lives,
    ran: &mut Ran,
) -> Vec<Subtask> {
    let mut model = Model::default();
    for one in models {
        model.map.extend(one.map);
        model.lists.extend(one.lists);
    }
    let groups = KeyGroups::new(parallelism, GROUPS);
    let after = (0..parallelism).map(|number| {
        let mut subtask = subtask(seed + u64::from(number), lives, before[0].writer.now);
        let range = groups.groups_of(number);
        let own = owned(parallelism, 40).swap_remove(number as usize);
        let mut own_model = model.clone();
        own_model.map.retain(|(key, _), _| own.contains(key));
        own_model.lists.retain(|key, _| own.contains(key));
        subtask.writer.model = own_model;
        match by_group {
            false => restore_by_layer(&mut subtask, before, &range),
            true => {
                let random = &mut Random::new(seed);
                ran.in_between += restore_by_group(&mut subtask, before, &range, &own, random);
            }
        }
        // What comes next may lie on it, if nobody else has a part of it.
        if before.len() == parallelism as usize {
            let same = &before[number as usize].layers;
            for (layers, stored) in subtask.layers.iter_mut().zip(same) {
                layers.extend(stored.iter().cloned());
            }
        }
        subtask
    });
    after.collect()
}

/// What a run has come to.
#[derive(Default)]
struct Ran {
    restores: usize,
    /// Steps in the middle of them.
    in_between: usize,
    rows: usize,
    entries: usize,
    stored: u64,
}

/// A run with snapshots and restores; `lives`: how long entries live at first, and after each restore.
fn run(seed: u64, ran: &mut Ran, mut lives: impl FnMut(&mut Random) -> Lives) -> Vec<Subtask> {
    let mut random = Random::new(seed);
    let mut subtasks = vec![subtask(seed, lives(&mut random), 0)];
    let mut full = true;
    for step in 0..120 {
        let keys = owned(subtasks.len() as u32, 40);
        let passed = random.below(60) as Millis;
        for (subtask, own) in subtasks.iter_mut().zip(&keys) {
            subtask.writer.now += passed;
            subtask.step(&mut random, own, step * 10);
        }
        if subtasks[0].taking.is_none() && random.below(3) == 0 {
            for subtask in &mut subtasks {
                subtask.begin_snapshot(full);
            }
            full = random.below(20) == 0;
        } else if subtasks[0].taking.is_some() && random.below(2) == 0 {
            let models = subtasks.iter_mut().map(Subtask::finish_snapshot).collect::<Vec<_>>();
            let layers = subtasks.iter().flat_map(|subtask| subtask.layers.iter().flatten());
            ran.rows += layers.count();
            if random.below(3) == 0 {
                let before = subtasks.len() as u32;
                let parallelism = match random.below(2) {
                    0 => before,
                    _ => 1 + random.below(3) as u32,
                };
                let lives = lives(&mut random);
                let how = (parallelism, random.below(2) == 0);
                subtasks = restored(&subtasks, models, how, seed * 100 + step as u64, lives, ran);
                full = parallelism != before;
                ran.restores += 1;
            }
        }
    }
    for subtask in &subtasks {
        let model = &subtask.writer.model;
        ran.entries += model.map.len() + model.lists.values().map(Vec::len).sum::<usize>();
        ran.stored += subtask.operator.collection_entries();
    }
    subtasks
}

#[test]
fn collections_are_what_trees_are_after_any_restore() {
    let mut ran = Ran::default();
    for seed in 0..30 {
        run(seed, &mut ran, |_| Lives(None));
        assert_eq!(ran.stored as usize, ran.entries);
    }
    let Ran {
        restores,
        in_between,
        rows,
        entries,
        ..
    } = ran;
    assert!(
        restores > 60 && in_between > 100 && rows > 500 && entries > 1_000,
        "{restores}, {in_between}, {rows}, {entries}"
    );
}

/// With a time to live that is the same in all of a run, or another after each restore.
#[test]
fn entries_that_expired_are_never_seen_and_never_stay() {
    let mut ran = Ran::default();
    for seed in 0..60 {
        let mut same = None;
        let subtasks = run(seed, &mut ran, |random| match seed % 3 {
            0 => Lives::random(random),
            _ => *same.get_or_insert_with(|| Lives::random(random)),
        });
        for mut subtask in subtasks {
            let mut rounds = 0;
            while let Some(next) = subtask.operator.next_processing_timer() {
                subtask.writer.now = subtask.writer.now.max(next);
                subtask.operator.handle_time(subtask.writer.now);
                fire_all(&mut subtask.operator, &mut subtask.writer).unwrap();
                rounds += 1;
                assert!(rounds < 1_000);
            }
            // The last look at a tier that rids itself of them some day may have been one of those that do nothing.
            assert!(subtask.compacts || subtask.operator.collection_entries() == 0);
        }
    }
    let Ran {
        restores,
        in_between,
        rows,
        entries,
        stored,
    } = ran;
    assert!(
        restores > 120 && in_between > 200 && rows > 1_000 && entries > 1_000 && stored as usize > entries,
        "{restores}, {in_between}, {rows}, {entries}, {stored}"
    );
}
