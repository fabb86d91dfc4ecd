//! Window operators against a naive model that does what Flink does, row by row.
//!
//! The double of the guest keeps the rows of every accumulator, refuses calls that break the contract, and
//! records what is emitted. After each step its record must equal the model's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use millrace_core::block::WATERMARK_MAX;
use millrace_core::function::{Slot, StateFunction};

use super::*;
use crate::testing::Random;

mod snapshots;

/// End, start, key, rows.
type Output = (Millis, Millis, i64, Vec<i64>);

fn key_schema(text: bool) -> SchemaRef {
    let data_type = if text { DataType::Utf8 } else { DataType::Int64 };
    Arc::new(Schema::new(vec![Field::new("key", data_type, false)]))
}

fn key_column(text: bool, keys: &[i64]) -> ArrayRef {
    match text {
        true => Arc::new(StringArray::from_iter_values(keys.iter().map(|key| format!("k{key}")))),
        false => Arc::new(Int64Array::from(keys.to_vec())),
    }
}

fn block(times: &[Millis], rows: &[i64]) -> Block {
    let schema = Arc::new(Schema::new(vec![Field::new("row", DataType::Int64, false)]));
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(rows.to_vec()))]).unwrap();
    Block {
        rows,
        times: Some(times.to_vec().into()),
        keys: None,
    }
}

fn rows_of(block: &Block) -> Vec<i64> {
    block.rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[derive(Default)]
struct Guest {
    accumulators: BTreeMap<Slot, Vec<i64>>,
    keys: BTreeMap<i64, i64>,
    emitted: Vec<Output>,
    accumulate_calls: usize,
}

impl WindowFunction for Guest {
    fn accumulate(&mut self, slots: &[Slot], block: &Block) -> Result<()> {
        self.accumulate_calls += 1;
        let rows = rows_of(block);
        assert_eq!(block.times.as_ref().unwrap().len(), rows.len());
        assert_eq!(slots.len(), rows.len());
        for (&slot, row) in slots.iter().zip(rows) {
            let accumulator = self.accumulators.entry(slot).or_default();
            assert!(
                accumulator.iter().all(|other| self.keys[other] == self.keys[&row]),
                "slot {slot} has two keys"
            );
            accumulator.push(row);
        }
        Ok(())
    }

    fn merge(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<()> {
        assert_eq!(targets.len(), sources.len());
        for (&target, source) in targets.iter().zip(sources) {
            let rows = self
                .accumulators
                .get(source)
                .expect("only what is there is merged")
                .clone();
            self.accumulators.entry(target).or_default().extend(rows);
        }
        Ok(())
    }

    fn emit(
        &mut self,
        slots: &[Slot],
        starts: &[Millis],
        ends: &[Millis],
        keys: &[ArrayRef],
        then_drop: bool,
    ) -> Result<()> {
        assert!(ends.is_sorted() && !slots.is_empty() && slots.len() <= SLOTS_PER_CALL);
        assert!(starts.len() == slots.len() && ends.len() == slots.len() && keys[0].len() == slots.len());
        for (i, slot) in slots.iter().enumerate() {
            let mut rows = self
                .accumulators
                .get(slot)
                .expect("only what is there is emitted")
                .clone();
            rows.sort_unstable();
            let key = match keys[0].as_string_opt::<i32>() {
                Some(keys) => keys.value(i)[1..].parse().unwrap(),
                None => keys[0].as_primitive::<Int64Type>().value(i),
            };
            self.emitted.push((ends[i], starts[i], key, rows));
        }
        if then_drop { self.drop_state(slots) } else { Ok(()) }
    }
}

/// Accumulators are lists of rows.
impl StateFunction for Guest {
    fn export_state(&mut self, state: u32, slots: &[Slot]) -> Result<ArrayRef> {
        assert_eq!(state, 0);
        let mut lists = ListBuilder::new(Int64Builder::new());
        for slot in slots {
            lists
                .values()
                .append_slice(self.accumulators.get(slot).expect("only what is there is exported"));
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    }

    fn import_state(&mut self, state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        assert_eq!(state, 0);
        for (&slot, rows) in slots.iter().zip(values.as_list::<i32>().iter()) {
            let rows = rows.expect("accumulators are there");
            self.accumulators
                .insert(slot, rows.as_primitive::<Int64Type>().values().to_vec());
        }
        Ok(())
    }

    fn drop_state(&mut self, slots: &[Slot]) -> Result<()> {
        for slot in slots {
            self.accumulators.remove(slot).expect("only what is there is dropped");
        }
        Ok(())
    }
}

/// Windows per key, as Flink keeps them.
#[derive(Clone)]
struct Model {
    decl: WindowDecl,
    watermark: Millis,
    /// (key, start, end) to its rows and whether it has still to fire.
    windows: BTreeMap<(i64, Millis, Millis), (Vec<i64>, bool)>,
    emitted: Vec<Output>,
    late: Vec<i64>,
    outside: u64,
}

impl Model {
    fn windows_of(&self, time: Millis) -> Vec<(Millis, Millis)> {
        let (size, slide, offset) = match self.decl.assigner {
            WindowAssigner::Tumbling { size_ms, offset_ms } => (size_ms, size_ms, offset_ms),
            WindowAssigner::Sliding {
                size_ms,
                slide_ms,
                offset_ms,
            } => (size_ms, slide_ms, offset_ms),
            WindowAssigner::Session { gap_ms } => return vec![(time, time + gap_ms)],
        };
        let mut start = time - (time - offset).rem_euclid(slide);
        let mut windows = Vec::new();
        while start + size > time {
            windows.push((start, start + size));
            start -= slide;
        }
        windows
    }

    fn expired(&self, end: Millis) -> bool {
        (end - 1).saturating_add(self.decl.allowed_lateness_ms) <= self.watermark
    }

    /// A row; the windows it touched that have ended already come into `again`.
    fn row(&mut self, key: i64, time: Millis, row: i64, again: &mut BTreeSet<(i64, Millis, Millis)>) {
        let windows = self.windows_of(time);
        if windows.is_empty() {
            match self.expired(time + 1) {
                true => self.late.push(row),
                false => self.outside += 1,
            }
            return;
        }
        let mut late = true;
        for (mut start, mut end) in windows {
            let mut rows = Vec::new();
            let mut merged = Vec::new();
            if let WindowAssigner::Session { .. } = self.decl.assigner {
                let joins = |&&(k, s, e): &&(i64, Millis, Millis)| k == key && s <= end && start <= e;
                merged = self.windows.keys().filter(joins).copied().collect();
                for &(_, s, e) in &merged {
                    (start, end) = (start.min(s), end.max(e));
                }
            }
            if self.expired(end) {
                assert!(merged.is_empty());
                continue;
            }
            late = false;
            for window in merged {
                rows.extend(self.windows.remove(&window).unwrap().0);
                again.remove(&window);
            }
            let ended = end - 1 <= self.watermark;
            let window = self.windows.entry((key, start, end)).or_insert((Vec::new(), !ended));
            window.0.extend(rows);
            window.0.push(row);
            if ended {
                again.insert((key, start, end));
            }
        }
        if late {
            self.late.push(row);
        }
    }

    fn emit(&mut self, window: (i64, Millis, Millis)) {
        let mut rows = self.windows[&window].0.clone();
        rows.sort_unstable();
        self.emitted.push((window.2, window.1, window.0, rows));
    }

    fn block(&mut self, keys: &[i64], times: &[Millis], rows: &[i64]) {
        let mut again = BTreeSet::new();
        for ((&key, &time), &row) in keys.iter().zip(times).zip(rows) {
            self.row(key, time, row, &mut again);
        }
        again.into_iter().for_each(|window| self.emit(window));
    }

    fn watermark(&mut self, watermark: Millis) {
        self.watermark = self.watermark.max(watermark);
        let due = self
            .windows
            .iter()
            .filter(|((_, _, end), (_, unfired))| *unfired && end - 1 <= self.watermark);
        for window in due.map(|(&window, _)| window).collect::<Vec<_>>() {
            self.emit(window);
            self.windows.get_mut(&window).unwrap().1 = false;
        }
        let live = |end: Millis| (end - 1).saturating_add(self.decl.allowed_lateness_ms) > self.watermark;
        self.windows.retain(|&(_, _, end), _| live(end));
    }
}

fn compare(guest: &mut Guest, model: &mut Model, case: &str) {
    let ends = guest.emitted.iter().map(|output| output.0);
    assert!(ends.is_sorted(), "{case}: windows fire in order of their end");
    guest.emitted.sort();
    model.emitted.sort();
    assert_eq!(guest.emitted, model.emitted, "{case}");
    guest.emitted.clear();
    model.emitted.clear();
}

fn run(decl: &WindowDecl, seed: u64) {
    let mut random = Random::new(seed);
    let text = random.below(3) == 0;
    let mut operator = WindowOperator::new(key_schema(text), decl).unwrap();
    let mut guest = Guest::default();
    let mut model = Model {
        decl: decl.clone(),
        watermark: Millis::MIN,
        windows: BTreeMap::new(),
        emitted: Vec::new(),
        late: Vec::new(),
        outside: 0,
    };
    let (key_count, spread) = (1 + random.below(12), 1 + random.below(120));
    let mut base = random.below(400) as Millis - 300;
    let mut late = Vec::new();
    let mut next_row = 0;
    for step in 0..60 {
        let case = format!("{decl:?} seed {seed} step {step}");
        let count = random.below(40) as usize;
        let keys = (0..count).map(|_| random.below(key_count) as i64).collect::<Vec<_>>();
        let times = (0..count)
            .map(|_| base + random.below(spread) as Millis)
            .collect::<Vec<_>>();
        let rows = (next_row..next_row + count as i64).collect::<Vec<_>>();
        next_row += count as i64;
        guest.keys.extend(rows.iter().copied().zip(keys.iter().copied()));
        let calls = guest.accumulate_calls;
        let block = block(&times, &rows);
        operator
            .handle_block(&[key_column(text, &keys)], &times, &block, &mut guest, &mut late)
            .unwrap();
        assert!(guest.accumulate_calls <= calls + 1, "one call per block");
        model.block(&keys, &times, &rows);
        compare(&mut guest, &mut model, &case);
        base += random.below(30) as Millis;
        if random.below(3) == 0 {
            let watermark = base + random.below(spread) as Millis - 20;
            advance(&mut operator, watermark, &mut guest);
            model.watermark(watermark);
            compare(&mut guest, &mut model, &case);
        }
        assert_eq!(operator.slot_count(), guest.accumulators.len(), "{case}");
    }
    advance(&mut operator, WATERMARK_MAX, &mut guest);
    model.watermark(WATERMARK_MAX);
    compare(&mut guest, &mut model, &format!("{decl:?} seed {seed} at the end"));
    assert!(
        guest.accumulators.is_empty() && operator.slot_count() == 0,
        "{decl:?} seed {seed}"
    );
    let late_rows = late.iter().flat_map(rows_of).collect::<Vec<_>>();
    let dropped = if decl.late_ports.iter().any(Option::is_some) {
        0
    } else {
        model.late.len() as u64
    };
    let expect = WindowCounters {
        late_rows: model.late.len() as u64,
        dropped_rows: dropped,
        outside_rows: model.outside,
    };
    assert_eq!(operator.counters(), expect);
    assert_eq!(
        late_rows,
        if decl.late_ports.iter().any(Option::is_some) {
            model.late
        } else {
            Vec::new()
        }
    );
}

fn decls(assigner: WindowAssigner) -> Vec<WindowDecl> {
    let decl = |lateness, late_port| WindowDecl {
        assigner,
        allowed_lateness_ms: lateness,
        late_ports: vec![late_port],
    };
    vec![decl(0, None), decl(0, Some(1)), decl(15, Some(1)), decl(100, None)]
}

fn advance(operator: &mut WindowOperator, watermark: Millis, guest: &mut Guest) {
    operator.handle_watermark(watermark);
    while operator.fire(guest).unwrap() {}
}

#[test]
fn tumbling_windows_agree_with_the_model() {
    for (size_ms, offset_ms) in [(10, 0), (25, 7), (1, 0), (300, -13)] {
        for decl in decls(WindowAssigner::Tumbling { size_ms, offset_ms }) {
            (0..15).for_each(|seed| run(&decl, seed));
        }
    }
}

#[test]
fn sliding_windows_agree_with_the_model() {
    for (size_ms, slide_ms, offset_ms) in [
        (60, 5, 0),
        (20, 10, 3),
        (10, 4, 0),
        (7, 7, 0),
        (10, 25, 4),
        (30, 20, -5),
    ] {
        for decl in decls(WindowAssigner::Sliding {
            size_ms,
            slide_ms,
            offset_ms,
        }) {
            (0..15).for_each(|seed| run(&decl, seed));
        }
    }
}

#[test]
fn session_windows_agree_with_the_model() {
    for gap_ms in [1, 5, 20, 70] {
        for decl in decls(WindowAssigner::Session { gap_ms }) {
            (0..40).for_each(|seed| run(&decl, seed));
        }
    }
}

fn outputs(assigner: WindowAssigner, lateness: Millis, steps: &[(&[Millis], Millis)]) -> Vec<(Millis, Millis, usize)> {
    let decl = WindowDecl {
        assigner,
        allowed_lateness_ms: lateness,
        late_ports: Vec::new(),
    };
    let mut operator = WindowOperator::new(key_schema(false), &decl).unwrap();
    let mut guest = Guest::default();
    for (times, watermark) in steps {
        let rows = (0..times.len() as i64).collect::<Vec<_>>();
        guest.keys.extend(rows.iter().map(|&row| (row, 0)));
        let keys = key_column(false, &vec![0; times.len()]);
        operator
            .handle_block(&[keys], times, &block(times, &rows), &mut guest, &mut Vec::new())
            .unwrap();
        advance(&mut operator, *watermark, &mut guest);
    }
    guest
        .emitted
        .into_iter()
        .map(|(end, start, _, rows)| (start, end, rows.len()))
        .collect()
}

#[test]
fn windows_begin_and_end_where_flink_says() {
    let tumbling = WindowAssigner::Tumbling {
        size_ms: 10,
        offset_ms: 0,
    };
    let sliding = WindowAssigner::Sliding {
        size_ms: 10,
        slide_ms: 5,
        offset_ms: 0,
    };
    let session = WindowAssigner::Session { gap_ms: 10 };
    for (assigner, lateness, steps, expect) in [
        (tumbling, 0, vec![([0, 9, 10].as_slice(), 8)], vec![]),
        (tumbling, 0, vec![(&[0, 9, 10], 9)], vec![(0, 10, 2)]),
        (
            tumbling,
            0,
            vec![(&[-1, -10, -11], -1)],
            vec![(-20, -10, 1), (-10, 0, 2)],
        ),
        (tumbling, 0, vec![(&[5], 9), (&[6], 10)], vec![(0, 10, 1)]),
        (
            tumbling,
            5,
            vec![(&[5], 9), (&[6, 7], 13), (&[8], 14), (&[9], 15)],
            vec![(0, 10, 1), (0, 10, 3), (0, 10, 4)],
        ),
        (
            sliding,
            0,
            vec![(&[-1, 0, 4, 5], WATERMARK_MAX)],
            vec![(-10, 0, 1), (-5, 5, 3), (0, 10, 3), (5, 15, 1)],
        ),
        (
            session,
            0,
            vec![(&[0, 10, 21], WATERMARK_MAX)],
            vec![(0, 20, 2), (21, 31, 1)],
        ),
        (session, 0, vec![(&[0, 20, 10], 28)], vec![]),
        (session, 0, vec![(&[0, 20, 10], 29)], vec![(0, 30, 3)]),
        (session, 0, vec![(&[0, 20], 5), (&[10], 29)], vec![(0, 30, 3)]),
        (
            session,
            100,
            vec![(&[0], 9), (&[10], 18), (&[], 19)],
            vec![(0, 10, 1), (0, 20, 2)],
        ),
    ] {
        assert_eq!(outputs(assigner, lateness, &steps), expect, "{assigner:?} {steps:?}");
    }
}

#[test]
fn keys_of_a_window_come_in_the_order_of_their_first_row() {
    for assigner in [
        WindowAssigner::Tumbling {
            size_ms: 10,
            offset_ms: 0,
        },
        WindowAssigner::Sliding {
            size_ms: 10,
            slide_ms: 5,
            offset_ms: 0,
        },
    ] {
        let decl = WindowDecl {
            assigner,
            allowed_lateness_ms: 0,
            late_ports: Vec::new(),
        };
        let mut operator = WindowOperator::new(key_schema(false), &decl).unwrap();
        let mut guest = Guest::default();
        let (keys, times, rows) = ([7, 3, 9, 3, 1], [1, 2, 3, 6, 7], [0, 1, 2, 3, 4]);
        guest.keys.extend(rows.into_iter().zip(keys));
        let columns = [key_column(false, &keys)];
        operator
            .handle_block(&columns, &times, &block(&times, &rows), &mut guest, &mut Vec::new())
            .unwrap();
        advance(&mut operator, 9, &mut guest);
        let window = guest.emitted.iter().filter(|output| (output.1, output.0) == (0, 10));
        assert_eq!(
            window.map(|output| output.2).collect::<Vec<_>>(),
            [7, 3, 9, 1],
            "{assigner:?}"
        );
    }
}

#[test]
fn the_ends_of_time_have_windows() {
    let times = [Millis::MIN, Millis::MIN + 1, Millis::MAX - 1, Millis::MAX];
    for assigner in [
        WindowAssigner::Tumbling {
            size_ms: 7,
            offset_ms: 3,
        },
        WindowAssigner::Sliding {
            size_ms: 10,
            slide_ms: 4,
            offset_ms: 0,
        },
        WindowAssigner::Session { gap_ms: 5 },
    ] {
        let results = outputs(assigner, 3, &[(&times, 0), (&[], WATERMARK_MAX)]);
        assert!(
            results.iter().map(|result| result.2).sum::<usize>() >= 4,
            "{assigner:?} {results:?}"
        );
    }
}
