//! Large maps and lists against trees, with snapshots and restores in between, at other parallelisms too.
//!
//! The double of the guest reads in each call what the model says was there when the call began, and writes at random.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use arrow_array::builder::{Int64Builder, StringBuilder};
use arrow_array::{StringArray, UInt32Array};
use arrow_select::filter::filter_record_batch;
use millrace_core::backend::{ByteRows, FrozenSorted, ScanRange, SortedTier};
use millrace_core::collections::{CollectionSchema, CollectionWrites, SharedCollections, WriteAction};
use millrace_core::key::{KeyGroup, KeyGroups};

use super::*;
use crate::tree_tier::TreeTier;

const GROUPS: u32 = 16;

type Map = BTreeMap<(i64, String), i64>;
type Lists = BTreeMap<i64, Vec<i64>>;

/// Entries by key; what a call sees.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    map: Map,
    lists: Lists,
}

fn collection_schemas() -> [CollectionSchema; 2] {
    let pair = vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Int64, false),
    ];
    let entries = Field::new("entries", DataType::Struct(pair.into()), false);
    let map = Field::new("map", DataType::Map(Arc::new(entries), false), true);
    let list = Field::new_list("list", Field::new_list_field(DataType::Int64, true), true);
    [map, list].map(|field| CollectionSchema::of(&field).unwrap())
}

/// Reads and writes large states alone; its slots never hold anything.
struct Writer {
    random: Random,
    collections: SharedCollections,
    model: Model,
}

impl Writer {
    fn check_reads(&mut self, keys: &[i64]) {
        let mut collections = self.collections.borrow_mut();
        assert_eq!(collections.entry_count(), keys.len());
        let entries = (0..self.random.below(6)).map(|_| self.random.below(keys.len() as u64) as u32);
        let entries = entries.collect::<Vec<_>>();
        let asked = entries.iter().map(|_| name(&mut self.random)).collect::<Vec<_>>();
        let (found, values) = collections
            .map_get(
                0,
                &entries,
                &(Arc::new(StringArray::from(asked.clone())) as ArrayRef),
                1 << 20,
            )
            .unwrap();
        let mut values = values.as_primitive::<Int64Type>().iter().flatten();
        for ((&entry, asked), found) in entries.iter().zip(asked).zip(found) {
            let expected = self.model.map.get(&(keys[entry as usize], asked)).copied();
            assert_eq!(found.then(|| values.next().unwrap()), expected);
        }
        let entry = self.random.below(keys.len() as u64) as u32;
        let key = keys[entry as usize];
        let after = (self.random.below(2) == 0).then(|| name(&mut self.random));
        let limit = 1 + self.random.below(9) as usize;
        let column = after
            .clone()
            .map(|after| Arc::new(StringArray::from(vec![after])) as ArrayRef);
        let read = collections.map_scan(0, entry, column.as_ref(), limit, 1 << 20).unwrap();
        let own = self.model.map.iter().filter(|((of, _), _)| *of == key);
        let behind = own.filter(|((_, name), _)| after.as_ref().is_none_or(|after| name > after));
        let expected = behind
            .clone()
            .take(limit)
            .map(|((_, name), value)| (name.as_str(), *value));
        let names = read.keys.as_string::<i32>().iter().flatten();
        assert!(
            names
                .zip(read.values.as_primitive::<Int64Type>().values().iter().copied())
                .eq(expected)
        );
        assert_eq!(read.more, behind.count() > limit);
        let all = (0..keys.len() as u32).collect::<Vec<_>>();
        let length = |key: &i64| self.model.lists.get(key).map_or(0, |list| list.len() as u64);
        let lengths = collections.list_length(1, &all).unwrap();
        assert!(lengths.into_iter().eq(keys.iter().map(length)));
        let start = self.random.below(12);
        let items = collections.list_read(1, entry, start, limit, 1 << 20).unwrap();
        let list = self.model.lists.get(&key).into_iter().flatten();
        let expected = list.skip(start as usize).take(limit);
        assert!(items.as_primitive::<Int64Type>().values().iter().eq(expected));
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
                    self.model.map.insert((key, name), value);
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
                    list.push(value);
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

    fn timers(&mut self, _: TimerKind, _: &[Slot], _: &[Millis], keys: &[ArrayRef]) -> Result<Effects> {
        let keys = keys[0].as_primitive::<Int64Type>().values().to_vec();
        self.check_reads(&keys);
        Ok(Effects {
            collections: vec![self.map_writes(&keys), self.list_writes(&keys)],
            ..Effects::default()
        })
    }
}

impl SortedTier for TreeTier {
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        FrozenSorted::get(self, keys, found, values)
    }

    fn scan(&mut self, range: &ScanRange<'_>, keys: &mut ByteRows, values: &mut ByteRows) -> Result<bool> {
        keys.clear();
        values.clear();
        let mut entries = self.entries.range(range.from.to_vec()..range.to.to_vec());
        for (key, value) in entries.by_ref().take(range.limit) {
            keys.push(key);
            values.push(value);
        }
        Ok(entries.next().is_some())
    }

    fn last(&mut self, from: &[u8], to: &[u8], key: &mut Vec<u8>) -> Result<bool> {
        let last = self.entries.range(from.to_vec()..to.to_vec()).next_back();
        key.clear();
        key.extend(last.into_iter().flat_map(|(key, _)| key));
        Ok(last.is_some())
    }

    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()> {
        millrace_core::backend::LowerTier::put(self, keys, values)
    }

    fn remove(&mut self, keys: &ByteRows) -> Result<()> {
        millrace_core::backend::LowerTier::remove(self, keys)
    }

    fn remove_range(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.entries
            .retain(|key, _| key.as_slice() < from || to <= key.as_slice());
        Ok(())
    }

    fn freeze(&mut self) -> Result<Arc<dyn FrozenSorted>> {
        Ok(Arc::new(self.clone()))
    }

    fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl FrozenSorted for TreeTier {
    fn get(&self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        found.clear();
        values.clear();
        for key in keys.iter() {
            let value = self.entries.get(key);
            found.push(value.is_some());
            values.push(value.map_or(&[], Vec::as_slice));
        }
        Ok(())
    }
}

/// One subtask: its operator and guest, and what its snapshots have left of each state.
struct Subtask {
    operator: KeyedOperator,
    writer: Writer,
    layers: [Vec<RecordBatch>; 2],
    /// The snapshot under way, not read yet, and what was there at its barrier.
    taking: Option<(Vec<TableDelta>, Model)>,
}

fn subtask(seed: u64) -> Subtask {
    let mut operator = KeyedOperator::new(schema(), 0, false).unwrap();
    operator.track_changes(&[], GROUPS);
    let tiers = collection_schemas().map(|schema| {
        let tier: Box<dyn SortedTier> = Box::new(TreeTier::new(true));
        (schema, tier)
    });
    let collections = operator.set_collections(tiers.into(), GROUPS).unwrap();
    Subtask {
        operator,
        writer: Writer {
            random: Random::new(seed),
            collections,
            model: Model::default(),
        },
        layers: [Vec::new(), Vec::new()],
        taking: None,
    }
}

impl Subtask {
    fn step(&mut self, random: &mut Random, own: &[i64], watermark: Millis) {
        let rows = 1 + random.below(10);
        let keys = (0..rows).map(|_| own[random.below(own.len() as u64) as usize]);
        let block = block(&keys.collect::<Vec<_>>());
        let Subtask { operator, writer, .. } = self;
        operator.handle_block(0, block.rows.columns(), &block, writer).unwrap();
        operator.handle_watermark(watermark);
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
fn of_groups(batch: &RecordBatch, range: &std::ops::Range<u32>) -> RecordBatch {
    let groups: &UInt32Array = batch.column(0).as_primitive();
    let own = groups.iter().map(|group| group.map(|group| range.contains(&group)));
    filter_record_batch(batch, &own.collect()).unwrap()
}

/// Starts again with as many subtasks, from the layers of all.
fn restored(before: &[Subtask], models: Vec<Model>, parallelism: u32, seed: u64) -> Vec<Subtask> {
    let mut model = Model::default();
    for one in models {
        model.map.extend(one.map);
        model.lists.extend(one.lists);
    }
    let groups = KeyGroups::new(parallelism, GROUPS);
    let after = (0..parallelism).map(|number| {
        let mut subtask = subtask(seed + u64::from(number));
        let range = groups.groups_of(number);
        for old in before {
            for (state, layers) in old.layers.iter().enumerate() {
                for layer in layers {
                    let own = of_groups(layer, &range);
                    subtask.operator.restore_collection(state, &own).unwrap();
                    // What comes next may lie on it, if nobody else has a part of it.
                    if before.len() == parallelism as usize && own.num_rows() > 0 {
                        subtask.layers[state].push(own);
                    }
                }
            }
        }
        let own = owned(parallelism, 40).swap_remove(number as usize);
        let mut own_model = model.clone();
        own_model.map.retain(|(key, _), _| own.contains(key));
        own_model.lists.retain(|key, _| own.contains(key));
        subtask.writer.model = own_model;
        subtask
    });
    after.collect()
}

#[test]
fn collections_are_what_trees_are_after_any_restore() {
    let (mut restores, mut rows, mut entries) = (0, 0, 0);
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut subtasks = vec![subtask(seed)];
        let mut full = true;
        for step in 0..120 {
            let keys = owned(subtasks.len() as u32, 40);
            for (subtask, own) in subtasks.iter_mut().zip(&keys) {
                subtask.step(&mut random, own, step * 10);
            }
            if subtasks[0].taking.is_none() && random.below(3) == 0 {
                for subtask in &mut subtasks {
                    subtask.begin_snapshot(full);
                }
                full = random.below(20) == 0;
            } else if subtasks[0].taking.is_some() && random.below(2) == 0 {
                let models = subtasks.iter_mut().map(Subtask::finish_snapshot).collect::<Vec<_>>();
                rows += subtasks
                    .iter()
                    .flat_map(|subtask| subtask.layers.iter().flatten())
                    .count();
                if random.below(3) == 0 {
                    let before = subtasks.len() as u32;
                    let parallelism = if random.below(2) == 0 {
                        before
                    } else {
                        1 + random.below(3) as u32
                    };
                    subtasks = restored(&subtasks, models, parallelism, seed * 100 + step as u64);
                    full = parallelism != before;
                    restores += 1;
                }
            }
        }
        for subtask in &subtasks {
            let model = &subtask.writer.model;
            let items = model.lists.values().map(Vec::len).sum::<usize>();
            assert_eq!(subtask.operator.collection_entries() as usize, model.map.len() + items);
            entries += model.map.len();
        }
    }
    assert!(
        restores > 60 && rows > 500 && entries > 500,
        "{restores}, {rows}, {entries}"
    );
}

#[test]
fn a_snapshot_holds_what_changed() {
    let mut subtask = subtask(1);
    let mut random = Random::new(1);
    let own = (0..20).collect::<Vec<i64>>();
    let rows = |subtask: &mut Subtask| {
        subtask.layers = [Vec::new(), Vec::new()];
        subtask.begin_snapshot(false);
        subtask.finish_snapshot();
        let batches = subtask.layers.iter().flatten();
        batches.map(RecordBatch::num_rows).sum::<usize>()
    };
    for step in 0..40 {
        subtask.step(&mut random, &own, step);
    }
    let all = rows(&mut subtask);
    assert_eq!(all as u64, subtask.operator.collection_entries());
    assert_eq!(rows(&mut subtask), 0);
    let before = subtask.writer.model.clone();
    subtask.step(&mut random, &own, 1_000);
    let changed = rows(&mut subtask);
    assert!(changed < all / 2, "{changed} of {all}");
    assert_ne!(before, subtask.writer.model);
}

/// One entry of a call at a time: each sees what the ones before have written.
#[test]
fn entries_by_themselves_see_those_before() {
    let mut subtask = subtask(3);
    let block = block(&[1, 2, 1]);
    let Subtask { operator, writer, .. } = &mut subtask;
    operator
        .collections
        .as_ref()
        .unwrap()
        .borrow_mut()
        .begin_call(block.rows.columns());
    let collections: Rc<RefCell<dyn Collections>> = writer.collections.clone();
    let append = |value: i64| CollectionWrites {
        state: 1,
        entries: vec![0],
        actions: vec![WriteAction::Append],
        keys: None,
        values: Arc::new(Int64Array::from(vec![value])),
    };
    let mut lengths = Vec::new();
    for entry in 0..3 {
        let mut collections = collections.borrow_mut();
        collections.narrow(Some(entry));
        assert_eq!(collections.entry_count(), 1);
        lengths.extend(collections.list_length(1, &[0]).unwrap());
        collections.apply(&[append(entry.into())]).unwrap();
    }
    assert_eq!(lengths, [0, 0, 1]);
    let mut collections = collections.borrow_mut();
    collections.narrow(None);
    assert_eq!(collections.list_length(1, &[0, 1, 2]).unwrap(), [2, 1, 2]);
}
