//! A savepoint holds what the checkpoint holds, whatever the tables are; damage is named.

mod random;
mod restored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::*;
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef, Fields};
use arrow_select::take::take;
use millrace_core::checkpoint::{CheckpointId, SplitSnapshot, SubtaskSnapshot, TableDelta};
use millrace_core::collections::{CollectionKind, CollectionSchema};
use millrace_core::connector::{Committable, Position};
use millrace_core::graph::{Renewal, TimeToLive};
use millrace_core::key::{KeyGroup, KeyGroups, RowEncoder, hash_rows};
use millrace_core::schema::{Declared, DeclaredState, KeyedSchema};

use super::layout::{expires_fields, session_fields, session_item, times_field};
use super::*;
use crate::redistribute::{self, CollectionRestore};
use crate::testing::Random;
use crate::{CheckpointInfo, Checkpoints, Depth, Kind, OperatorSnapshot, RestoredCheckpoint, Run, Storage, codes};

const MAX_PARALLELISM: u32 = 32;

fn layout(random: &mut Random) -> Layout {
    let key_fields = 1 + random.below(3);
    let key: Vec<FieldRef> = (0..key_fields)
        .map(|at| random::field(random, &format!("k{at}"), 1, true))
        .collect();
    let state = |random: &mut Random, name: &str| {
        let field = Field::new(name, random::data_type(random, 2, false), true);
        Arc::new(field)
    };
    let (mut expiring, mut large) = (Vec::new(), Vec::new());
    let kind = match random.below(4) {
        0 => LayoutKind::Windows(state(random, "total")),
        1 => LayoutKind::Sessions(state(random, "total")),
        _ => {
            let count = random.below(4);
            expiring.extend((0..count as usize).filter(|_| random.below(3) == 0));
            large.extend((0..random.below(3)).map(|at| large_state(random, &format!("large{at}"))));
            LayoutKind::Keyed((0..count).map(|at| state(random, &format!("k{at}"))).collect())
        }
    };
    Layout {
        key: Fields::from(key),
        kind,
        expiring,
        large,
    }
}

/// A large map or list.
fn large_state(random: &mut Random, name: &str) -> LargeState {
    let value = random::field(random, "values", 1, false);
    let data_type = match random.below(2) {
        0 => DataType::List(value),
        _ => {
            let key = random::data_type(random, 0, true);
            let entry = Fields::from(vec![Arc::new(Field::new("keys", key, false)), value]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
        }
    };
    LargeState {
        field: Arc::new(Field::new(name, data_type, true)),
        ttl: (random.below(2) == 0).then_some(TimeToLive {
            after_ms: 5,
            renewed_by: Renewal::Write,
        }),
    }
}

/// What the engine stores beside the rows.
fn described(layout: &Layout) -> KeyedSchema {
    let mut schema = layout.schema();
    for state in &layout.expiring {
        schema.states[*state].ttl = Some(TimeToLive {
            after_ms: 5,
            renewed_by: Renewal::ReadOrWrite,
        });
    }
    let large = |state: &LargeState| DeclaredState {
        value: Declared::plain(state.field.as_ref().clone()),
        migrations: Vec::new(),
        ttl: state.ttl,
        large: true,
        broadcast: false,
    };
    schema.states.extend(layout.large.iter().map(large));
    schema
}

/// What is behind the key in rows of a layer.
fn values(random: &mut Random, layout: &Layout, count: usize) -> Vec<ArrayRef> {
    match &layout.kind {
        LayoutKind::Keyed(states) => {
            let mut more: Vec<ArrayRef> = states
                .iter()
                .map(|state| random::column(random, state, count))
                .collect();
            if layout.expires_field().is_some() {
                let times = |state: &usize| -> ArrayRef {
                    let valid = |row: usize| more[*state].is_valid(row);
                    let time = |row| valid(row).then_some(row as i64 - 3);
                    Arc::new((0..count).map(time).collect::<Int64Array>())
                };
                let times = layout.expiring.iter().map(times).collect();
                let fields = expires_fields(states, &layout.expiring);
                more.push(Arc::new(StructArray::new(fields, times, None)));
            }
            for _ in 0..2 {
                let mut lists = ListBuilder::new(Int64Builder::new()).with_field(times_field());
                for _ in 0..count {
                    let times: BTreeSet<i64> = (0..random.below(4)).map(|_| random.below(9) as i64 - 4).collect();
                    lists.values().append_slice(&times.into_iter().collect::<Vec<_>>());
                    lists.append(true);
                }
                more.push(Arc::new(lists.finish()));
            }
            more
        }
        LayoutKind::Windows(accumulator) => {
            // Filled in with the identity.
            let starts = Int64Array::from(vec![0; count]);
            vec![Arc::new(starts), random::column(random, accumulator, count)]
        }
        LayoutKind::Sessions(accumulator) => {
            let lengths: Vec<usize> = (0..count).map(|_| random.below(4) as usize).collect();
            let firsts: Vec<i64> = lengths.iter().flat_map(|length| 0..*length as i64).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(firsts.iter().map(|first| first * 100))),
                Arc::new(Int64Array::from_iter_values(firsts.iter().map(|first| first * 100 + 7))),
                random::column(random, accumulator, firsts.len()),
            ];
            let items = StructArray::new(session_fields(accumulator), columns, None);
            let offsets = OffsetBuffer::from_lengths(lengths);
            vec![Arc::new(ListArray::new(
                session_item(accumulator),
                offsets,
                Arc::new(items),
                None,
            ))]
        }
    }
}

/// Keys that are all different, with the key group of each.
fn key_pool(random: &mut Random, layout: &Layout) -> (Vec<ArrayRef>, Vec<u32>) {
    let keys: Vec<ArrayRef> = layout
        .key
        .iter()
        .map(|field| random::column(random, field, 60))
        .collect();
    let mut seen = BTreeSet::new();
    let encoder = RowEncoder::new(&keys).unwrap();
    let fresh = (0..60u32).filter(|row| {
        let mut encoded = Vec::new();
        encoder.append_tagged(*row as usize, &mut encoded);
        seen.insert(encoded)
    });
    let rows = UInt32Array::from_iter_values(fresh);
    let keys: Vec<ArrayRef> = keys.iter().map(|column| take(column, &rows, None).unwrap()).collect();
    let mut hashes = Vec::new();
    hash_rows(&keys, &mut hashes).unwrap();
    let groups = hashes.iter().map(|hash| KeyGroup::of_hash(*hash, MAX_PARALLELISM).0);
    (keys, groups.collect())
}

fn rows(
    layout: &Layout,
    pool: &(Vec<ArrayRef>, Vec<u32>),
    picked: &[u32],
    deleted: bool,
    more: Vec<ArrayRef>,
) -> RecordBatch {
    let picked_rows = UInt32Array::from(picked.to_vec());
    let keys = pool.0.iter().map(|column| take(column, &picked_rows, None).unwrap());
    let groups = UInt32Array::from_iter_values(picked.iter().map(|row| pool.1[*row as usize]));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(groups),
        Arc::new(BooleanArray::from(vec![deleted; picked.len()])),
        Arc::new(StructArray::new(layout.key.clone(), keys.collect(), None)),
    ];
    columns.extend(more);
    RecordBatch::try_new(layout.rows_schema(), columns).unwrap()
}

/// A layer of the subtask that owns these keys.
fn delta(
    random: &mut Random,
    layout: &Layout,
    pool: &(Vec<ArrayRef>, Vec<u32>),
    own: &[u32],
    full: bool,
) -> TableDelta {
    let mut batches = Vec::new();
    let is_window = matches!(layout.kind, LayoutKind::Windows(_));
    if !full && !is_window {
        let gone: Vec<u32> = own.iter().copied().filter(|_| random.below(4) == 0).collect();
        let schema = layout.rows_schema();
        let nulls = schema.fields()[3..]
            .iter()
            .map(|field| new_null_array(field.data_type(), gone.len()));
        batches.push(rows(layout, pool, &gone, true, nulls.collect()));
    }
    for slice in 0..if is_window { 3 } else { 1 } {
        let some: Vec<u32> = own.iter().copied().filter(|_| random.below(2) == 0).collect();
        let mut more = values(random, layout, some.len());
        if is_window {
            more[0] = Arc::new(Int64Array::from(vec![slice * 1_000 - 1_000; some.len()]));
        }
        batches.push(rows(layout, pool, &some, false, more));
    }
    TableDelta {
        full,
        cold: None,
        batches,
        live_rows: own.len() as u64,
    }
}

/// A checkpoint of an operator with this layout, in several layers.
/// A layer of a large state: rows of some entries of some of these keys, gone or not.
fn large_delta(
    random: &mut Random,
    layout: &Layout,
    state: &LargeState,
    pool: &(Vec<ArrayRef>, Vec<u32>),
    own: &[u32],
    full: bool,
) -> TableDelta {
    let large = CollectionSchema {
        ttl: state.ttl,
        ..CollectionSchema::of(&state.field).unwrap()
    };
    let count = if own.is_empty() { 0 } else { random.below(40) as usize };
    let picked = (0..count).map(|_| own[random.below(own.len() as u64) as usize]);
    let picked = UInt32Array::from_iter_values(picked);
    let keys = pool.0.iter().map(|column| take(column, &picked, None).unwrap());
    let groups = picked.values().iter().map(|row| pool.1[*row as usize]);
    let deleted = (0..count)
        .map(|_| Some(!full && random.below(3) == 0))
        .collect::<BooleanArray>();
    let entries: ArrayRef = match large.kind {
        CollectionKind::Map => random::column(random, &large.entry, count),
        CollectionKind::List => Arc::new(UInt64Array::from_iter_values((0..count).map(|_| random.below(5)))),
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(groups)),
        Arc::new(deleted),
        Arc::new(StructArray::new(layout.key.clone(), keys.collect(), None)),
        entries,
        random::column(random, &large.value, count),
    ];
    columns.extend(large.ttl.map(|_| {
        let times = (0..count as i64).map(|row| (row % 3 > 0).then_some(row - 3));
        Arc::new(times.collect::<Int64Array>()) as ArrayRef
    }));
    let rows = RecordBatch::try_new(collections::rows_schema(&layout.key, &large), columns).unwrap();
    TableDelta {
        full,
        cold: None,
        batches: vec![rows],
        live_rows: count as u64,
    }
}

/// Entries of large states by state, key and what tells them apart, each as a batch of one row.
fn large_entries(stored: &[CollectionRestore]) -> BTreeMap<(String, Vec<u8>), RecordBatch> {
    let mut entries = BTreeMap::new();
    for large in stored {
        for batch in &large.batches {
            let mut columns = batch.column(2).as_struct().columns().to_vec();
            columns.push(batch.column(3).clone());
            let encoder = RowEncoder::new(&columns).unwrap();
            for row in 0..batch.num_rows() {
                let mut identity = Vec::new();
                encoder.append_tagged(row, &mut identity);
                let identity = (large.state.clone(), identity);
                match batch.column(1).as_boolean().value(row) {
                    true => entries.remove(&identity),
                    false => entries.insert(identity, batch.slice(row, 1)),
                };
            }
        }
    }
    entries
}

fn checkpoint(random: &mut Random, layout: &Layout, storage: &Storage) -> RestoredCheckpoint {
    let checkpoints = Checkpoints::create(storage, Run::new("job", "00ff", 1_000, 1)).unwrap();
    let parallelism = 1 + random.below(5) as u32;
    let owners = KeyGroups::new(parallelism, MAX_PARALLELISM);
    let pool = key_pool(random, layout);
    let layers = 1 + random.below(4);
    // Those of old have none.
    let random_keyed = !layout.expiring.is_empty() || !layout.large.is_empty() || random.below(2) == 0;
    for id in 1..=layers {
        let subtask = |subtask| {
            let range = owners.groups_of(subtask);
            let own = (0..pool.1.len() as u32).filter(|row| range.contains(&pool.1[*row as usize]));
            let own = own.collect::<Vec<_>>();
            let large = layout.large.iter();
            let large = large.map(|state| large_delta(random, layout, state, &pool, &own, id == 1));
            let collections = large.collect();
            SubtaskSnapshot {
                watermark: (random.below(5) > 0).then(|| random.below(1_000) as i64),
                table: Some(delta(random, layout, &pool, &own, id == 1)),
                collections,
                splits: vec![SplitSnapshot {
                    id: format!("split {subtask}"),
                    position: Position(vec![subtask as u8, 255]),
                    max_time: Some(7),
                }],
                committables: vec![Committable(vec![1, 2])],
                finished: subtask == 1,
                channels: Vec::new(),
            }
        };
        let operator = OperatorSnapshot {
            id: "op/1".to_owned(),
            name: "Operator".to_owned(),
            keyed: random_keyed.then(|| described(layout)),
            subtasks: (0..parallelism).map(subtask).collect(),
            ..OperatorSnapshot::default()
        };
        let info = CheckpointInfo {
            kind: Kind::Checkpoint,
            parameters: [("a".to_owned(), "b".to_owned())].into(),
            max_parallelism: MAX_PARALLELISM,
            started_ms: 5,
            completed_ms: 6,
        };
        checkpoints.store(CheckpointId(id), &info, vec![operator]).unwrap();
    }
    storage.open_latest("job", Depth::Contents).unwrap().found.unwrap()
}

/// Entries by identity, each as a batch of one row; those that hold nothing are left out.
fn entries(layout: &Layout, batches: &[RecordBatch]) -> BTreeMap<Vec<u8>, RecordBatch> {
    let mut entries = BTreeMap::new();
    for batch in batches {
        assert_eq!(batch.schema(), layout.rows_schema());
        let keys = batch.column(2).as_struct().columns();
        let encoder = RowEncoder::new(keys).unwrap();
        for row in 0..batch.num_rows() {
            let mut identity = Vec::new();
            encoder.append_tagged(row, &mut identity);
            if let LayoutKind::Windows(_) = layout.kind {
                let start = batch.column(3).as_primitive::<Int64Type>().value(row);
                identity.extend(start.to_be_bytes());
            }
            let one = batch.slice(row, 1);
            let holds = match &layout.kind {
                LayoutKind::Keyed(states) => {
                    let timers = |at: usize| {
                        !one.column(one.num_columns() - 2 + at)
                            .as_list::<i32>()
                            .value(0)
                            .is_empty()
                    };
                    (0..states.len()).any(|state| one.column(3 + state).is_valid(0))
                        || (one.column(1).as_boolean().value(0) || timers(0) || timers(1))
                }
                LayoutKind::Windows(_) => true,
                LayoutKind::Sessions(_) => {
                    one.column(1).as_boolean().value(0) || !one.column(3).as_list::<i32>().value(0).is_empty()
                }
            };
            if one.column(1).as_boolean().value(0) || !holds {
                entries.remove(&identity);
            } else {
                entries.insert(identity, one);
            }
        }
    }
    entries
}

fn written(seed: u64) -> (Layout, RestoredCheckpoint, String) {
    let random = &mut Random::new(seed);
    let layout = layout(random);
    let storage = Storage::open(&format!("memory://savepoint-from-{seed}")).unwrap();
    let checkpoint = checkpoint(random, &layout, &storage);
    let url = format!("memory://savepoint-to-{seed}");
    let manifest = write(&checkpoint, &url).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert_eq!(manifest.job, "job");
    (layout, checkpoint, url)
}

#[test]
fn a_savepoint_restores_as_its_checkpoint_does() {
    let mut large_rows = 0;
    for seed in 0..300 {
        let (layout, checkpoint, url) = written(seed);
        let savepoint = Savepoint::open(&url, Depth::Contents).unwrap();
        let (then, now) = (checkpoint.metadata(), savepoint.metadata());
        let (before, after) = (&then.operators[0], &now.operators[0]);
        assert_eq!(redistribute::splits(before), redistribute::splits(after));
        assert_eq!(redistribute::committables(before), redistribute::committables(after));
        assert_eq!((&then.parameters, &then.pipeline), (&now.parameters, &now.pipeline));
        let ttls = |operator: &crate::format::Operator| -> Vec<Option<SavedTtl>> {
            let states = operator.keyed.iter().flat_map(|keyed| &keyed.states);
            states.map(|state| state.ttl).collect()
        };
        if before.keyed.is_some() {
            assert_eq!(ttls(before), ttls(after), "seed {seed}");
        }
        assert_eq!(
            savepoint.manifest().operators[0].layout().unwrap(),
            layout,
            "seed {seed}"
        );
        for parallelism in [1, before.parallelism, 7, MAX_PARALLELISM] {
            for subtask in 0..parallelism {
                let expected = checkpoint.restore_task(before, parallelism, subtask).unwrap();
                let got = savepoint.restore_task(after, parallelism, subtask).unwrap();
                assert_eq!(got.watermark, expected.watermark);
                let large = large_entries(&expected.collections);
                assert_eq!(large_entries(&got.collections), large, "seed {seed}");
                large_rows += large.len();
                let expected = entries(&layout, &expected.batches);
                assert_eq!(entries(&layout, &got.batches), expected, "seed {seed}");
                assert_eq!(
                    got.batches.iter().map(RecordBatch::num_rows).sum::<usize>(),
                    expected.len()
                );
            }
        }
    }
    assert!(large_rows > 1_000, "{large_rows}");
}

#[test]
fn tables_are_in_order_and_say_the_truth_about_themselves() {
    for seed in 0..40 {
        let (layout, _, url) = written(1_000 + seed);
        let savepoint = Savepoint::open(&url, Depth::Sizes).unwrap();
        for table in &savepoint.manifest().operators[0].tables {
            let batches = savepoint.read_table(table, 0..MAX_PARALLELISM).unwrap();
            assert_eq!(
                batches.iter().map(|rows| rows.num_rows() as u64).sum::<u64>(),
                table.rows
            );
            let mut last = (0, 0);
            for rows in &batches {
                let mut hashes = Vec::new();
                hash_rows(&rows.columns()[1..=layout.key.len()], &mut hashes).unwrap();
                let groups = rows.column(0).as_primitive::<UInt32Type>();
                for (group, hash) in groups.values().iter().zip(hashes) {
                    assert_eq!(KeyGroup::of_hash(hash, MAX_PARALLELISM).0, *group);
                    assert!((*group, hash) >= last, "seed {seed}");
                    last = (*group, hash);
                }
            }
        }
    }
}

#[test]
fn a_savepoint_may_be_moved_and_its_damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let random = &mut Random::new(7);
    let count = Field::new("count", arrow_schema::DataType::Int64, true);
    let layout = Layout {
        key: Fields::from(vec![Field::new("id", arrow_schema::DataType::Int64, false)]),
        kind: LayoutKind::Keyed(vec![Arc::new(count)]),
        expiring: vec![0],
        large: Vec::new(),
    };
    let storage = Storage::open(&place("checkpoints")).unwrap();
    let checkpoint = checkpoint(random, &layout, &storage);
    write(&checkpoint, &place("a")).unwrap();
    let error = write(&checkpoint, &place("a")).unwrap_err();
    assert_eq!(error.code(), codes::OCCUPIED);
    std::fs::rename(place("a"), place("b")).unwrap();
    let savepoint = Savepoint::open(&place("b"), Depth::Contents).unwrap();
    let file = &savepoint.manifest().operators[0].tables[0].files[0].file;
    assert_eq!(file, "tables/op%2F1/state-count/0000.parquet");

    let error = Savepoint::open(&place("a"), Depth::Contents).unwrap_err();
    assert_eq!(error.code(), codes::NO_SAVEPOINT);
    assert!(!folder.path().join("a").exists());
    let path = folder.path().join("b").join(file);
    let check = |content: Option<&[u8]>, code: &str| {
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = Savepoint::open(&place("b"), Depth::Contents).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains("0000.parquet"), "{error}");
    };
    let mut content = std::fs::read(&path).unwrap();
    check(Some(&content[1..]), codes::MISSING);
    content[40] ^= 1;
    check(Some(&content), codes::DAMAGED);
    check(None, codes::MISSING);
    let manifest = folder.path().join("b/manifest.json");
    let mut content = std::fs::read(&manifest).unwrap();
    content[100] ^= 1;
    std::fs::write(&manifest, content).unwrap();
    let error = Savepoint::open(&place("b"), Depth::Contents).unwrap_err();
    assert_eq!(error.code(), codes::METADATA);
    assert!(error.to_string().contains("manifest.json"), "{error}");
}

/// What is given up leaves the place as it was, wherever it is given up.
#[test]
fn a_savepoint_that_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let random = &mut Random::new(11);
    let layout = layout(random);
    let storage = Storage::open("memory://savepoint-given-up").unwrap();
    let checkpoint = checkpoint(random, &layout, &storage);
    let url = folder.path().join("savepoint").to_str().unwrap().to_owned();
    let asked = std::cell::Cell::new(0);
    for files in 0.. {
        asked.set(0);
        let still_wanted = || {
            asked.set(asked.get() + 1);
            match asked.get() > files {
                true => Err(millrace_core::Error::external("XX0001", "not wanted")),
                false => Ok(()),
            }
        };
        let Err(error) = write_while(&checkpoint, &url, &still_wanted) else {
            break;
        };
        assert_eq!(error.code(), "XX0001");
        assert_eq!(std::fs::read_dir(&url).unwrap().count(), 0, "after {files} files");
        check_target(&url).unwrap();
    }
    assert!(asked.get() > 1, "it has more than a manifest");
    assert!(folder.path().join("savepoint/manifest.json").is_file());
    assert_eq!(check_target(&url).unwrap_err().code(), codes::OCCUPIED);
}
