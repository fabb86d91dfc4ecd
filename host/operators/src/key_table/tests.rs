//! The key table against a `BTreeMap` from key to slot, over random batches and removals.

use std::collections::BTreeMap;

use arrow_array::*;
use arrow_schema::{Field, Schema};

use super::*;
use crate::testing::Random;

fn schema(columns: &[ArrayRef], nullable: bool) -> SchemaRef {
    let fields = columns.iter().enumerate();
    let fields = fields.map(|(i, column)| Field::new(format!("k{i}"), column.data_type().clone(), nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Columns of rows whose keys are numbered: the same number gives the same key.
fn columns(kind: usize, keys: &[u64]) -> (Vec<ArrayRef>, bool) {
    let text = |key: &u64| format!("key-{}", key * key % 1000 * 1000 + key);
    match kind {
        0 => (
            vec![Arc::new(Int64Array::from_iter_values(
                keys.iter().map(|&key| key as i64 - 50),
            ))],
            false,
        ),
        1 => (
            vec![Arc::new(UInt16Array::from_iter_values(
                keys.iter().map(|&key| key as u16),
            ))],
            false,
        ),
        2 => (
            vec![Arc::new(StringArray::from_iter_values(keys.iter().map(text)))],
            false,
        ),
        3 => (
            vec![Arc::new(Int32Array::from_iter(
                keys.iter().map(|&key| (key != 3).then_some(key as i32)),
            ))],
            true,
        ),
        _ => (
            vec![
                Arc::new(StringArray::from_iter(
                    keys.iter().map(|key| (key % 7 != 0).then(|| text(&(key / 3)))),
                )),
                Arc::new(Int64Array::from_iter(
                    keys.iter().map(|&key| (key % 5 != 0).then_some(key as i64)),
                )),
                Arc::new(UInt64Array::from_iter_values(keys.iter().copied())),
            ],
            true,
        ),
    }
}

fn run(kind: usize, seed: u64) {
    let mut random = Random::new(seed);
    let (sample, nullable) = columns(kind, &[0]);
    let schema = schema(&sample, nullable);
    let mut table = KeyTable::new(schema.clone(), random.below(50) as usize).unwrap();
    let mut batch = KeyBatch::new(schema).unwrap();
    let mut model = BTreeMap::<u64, Slot>::new();
    let key_count = 1 + random.below(3000);
    for _ in 0..60 {
        let rows = 1 + random.below(600) as usize;
        let keys = (0..rows).map(|_| random.below(key_count)).collect::<Vec<_>>();
        batch.load(&columns(kind, &keys).0).unwrap();
        let (mut slots, mut fresh) = (Vec::new(), Vec::new());
        let selected = if random.below(2) == 0 {
            let start = random.below(rows as u64) as usize;
            table.find_or_insert(&batch, start..rows, &mut slots, &mut fresh);
            (start..rows).collect::<Vec<_>>()
        } else {
            let selected = (0..rows)
                .filter(|_| random.below(3) > 0)
                .map(|row| row as u32)
                .collect::<Vec<_>>();
            table.find_or_insert_at(&batch, &selected, &mut slots, &mut fresh);
            selected.iter().map(|&row| row as usize).collect()
        };
        let mut fresh = fresh.into_iter();
        assert_eq!(slots.len(), selected.len());
        let mut order = Vec::new();
        for (&slot, &row) in slots.iter().zip(&selected) {
            let known = model.values().any(|&other| other == slot);
            let expect = *model.entry(keys[row]).or_insert_with(|| {
                assert!(!known, "slot {slot} is somebody else's");
                order.push(slot);
                slot
            });
            assert_eq!(slot, expect);
        }
        assert_eq!(fresh.by_ref().collect::<Vec<_>>(), order);
        assert_eq!(table.len(), model.len());
        let gone = model
            .iter()
            .filter(|_| random.below(3) == 0)
            .map(|(&key, &slot)| (key, slot));
        for (key, slot) in gone.collect::<Vec<_>>() {
            model.remove(&key);
            table.remove(slot);
        }
        let slots = model.values().copied().collect::<Vec<_>>();
        let keys = model.keys().copied().collect::<Vec<_>>();
        assert_eq!(table.key_columns(&slots).unwrap(), columns(kind, &keys).0);
        assert!(table.slot_bound() as usize <= key_count as usize);
    }
}

#[test]
fn agrees_with_a_map() {
    for kind in 0..5 {
        for seed in 0..8 {
            run(kind, seed);
        }
    }
}

#[test]
fn a_batch_from_a_table_has_its_keys() {
    for kind in 0..5 {
        let keys = (0..300).collect::<Vec<_>>();
        let (columns, nullable) = columns(kind, &keys);
        let schema = schema(&columns, nullable);
        let mut batch = KeyBatch::new(schema.clone()).unwrap();
        batch.load(&columns).unwrap();
        let (mut slots, mut fresh) = (Vec::new(), Vec::new());
        let mut table = KeyTable::new(schema.clone(), 0).unwrap();
        table.find_or_insert(&batch, 0..300, &mut slots, &mut fresh);
        let mut other = KeyTable::new(schema, 0).unwrap();
        batch.load_from(&table, 100..250);
        slots.clear();
        other.find_or_insert(&batch, 0..150, &mut slots, &mut fresh);
        let expect = columns.iter().map(|column| column.slice(100, 150)).collect::<Vec<_>>();
        assert_eq!(other.key_columns(&slots).unwrap(), expect);
        batch.load_from(&table, 90..110);
        let mut found = Vec::new();
        other.find(&batch, 5..20, &mut found);
        let expect = (95..110).map(|key| (key >= 100).then(|| key - 100)).collect::<Vec<_>>();
        assert_eq!(found, expect);
        assert!(other.memory_bytes() > 150);
        other.clear();
        assert!(other.is_empty());
    }
}

#[test]
fn columns_that_do_not_match_are_refused() {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let mut batch = KeyBatch::new(schema).unwrap();
    assert!(batch.load(&[Arc::new(Int32Array::from(vec![1]))]).is_err());
    assert!(batch.load(&[Arc::new(Int64Array::from(vec![None]))]).is_err());
    assert!(batch.load(&[]).is_err());
    batch.load(&[Arc::new(Int64Array::from(vec![1]))]).unwrap();
}
