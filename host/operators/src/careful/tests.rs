//! Careful operators beside plain ones that never meet what was set aside: both must hold and put out the same.
//!
//! The double of an instance does part of a call before it traps and spoils everything it holds when it does, as a real
//! one may. It is only right again after it was replaced.

mod guest;

use std::cell::RefCell;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use millrace_core::Error;
use millrace_core::checkpoint::TableDelta;
use millrace_core::function::{Effects, KeyedFunction, StateFunction, TriedFunction};
use millrace_core::graph::{WindowAssigner, WindowDecl};

use self::guest::{Guest, NONE, Poison, Values};
use super::*;
use crate::testing::Random;
use crate::tree_tier::TreeTier;
use crate::{KeyedOperator, WindowOperator};

/// The instance is the map that the guest shares.
struct Replacer {
    values: Rc<RefCell<Values>>,
    shadow: SharedShadow,
    count: RefCell<usize>,
}

impl Instances for Replacer {
    fn replace(&self) -> Result<()> {
        *self.count.borrow_mut() += 1;
        self.values.borrow_mut().clear();
        let mut fresh = Guest::new(NONE, true, false);
        fresh.values = self.values.clone();
        self.shadow.borrow().give(&mut fresh)
    }
}

fn careful(guest: &Guest, by_entry: bool) -> (Careful, Rc<Replacer>) {
    let shadow = SharedShadow::new(RefCell::new(Shadow::new(1)));
    let replacer = Rc::new(Replacer {
        values: guest.values.clone(),
        shadow: shadow.clone(),
        count: RefCell::default(),
    });
    let careful = if by_entry {
        Careful::by_entry(replacer.clone(), shadow, guest.always_writes)
    } else {
        Careful::whole(replacer.clone(), shadow, guest.always_writes)
    };
    (careful, replacer)
}

fn key_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]))
}

fn state() -> arrow_schema::FieldRef {
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    Arc::new(Field::new("rows", DataType::List(item), true))
}

/// Rows as (key, number, time).
fn block(rows: &[(i64, i64, Millis)]) -> Block {
    let field = |name: &str| Field::new(name, DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![field("key"), field("row")]));
    let column = |value: fn(&(i64, i64, Millis)) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(value(row))).collect::<Int64Array>())
    };
    let columns = vec![column(|row| row.0), column(|row| row.1)];
    Block {
        rows: RecordBatch::try_new(schema, columns).unwrap(),
        times: Some(rows.iter().map(|row| row.2).collect::<Vec<_>>().into()),
        keys: None,
    }
}

/// The numbers of the rows that were set aside, and how many timers and windows.
fn set_aside(careful: &mut Careful) -> (Vec<i64>, usize) {
    let (mut rows, mut others) = (Vec::new(), 0);
    for quarantined in careful.take_quarantined() {
        assert_eq!(quarantined.fault.operator, Some(1));
        match quarantined.entry {
            Entry::Row(row) => rows.push(row.rows.column(1).as_primitive::<Int64Type>().value(0)),
            Entry::Timer { keys, .. } | Entry::Window { keys, .. } => {
                assert_eq!(keys[0].len(), 1);
                others += 1;
            }
            Entry::Match { .. } => unreachable!("there is no pattern"),
        }
    }
    (rows, others)
}

/// Either operator, with what the tests ask of it.
enum Operator {
    Keyed(Box<KeyedOperator>),
    Window(Box<WindowOperator>),
}

#[derive(Clone)]
enum Kind {
    Keyed { always_writes: bool },
    Window(WindowDecl),
}

impl Operator {
    fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Keyed { always_writes } => {
                let mut operator = KeyedOperator::new(key_schema(), 1, *always_writes).unwrap();
                operator.track_changes(&[state()], 64);
                Operator::Keyed(Box::new(operator))
            }
            Kind::Window(decl) => {
                let mut operator = WindowOperator::new(key_schema(), decl).unwrap();
                operator.track_changes(&state(), 64);
                Operator::Window(Box::new(operator))
            }
        }
    }

    fn rows(&mut self, rows: &[(i64, i64, Millis)], guest: &mut Guest, careful: Option<&mut Careful>) {
        let block = block(rows);
        let keys = [block.rows.column(0).clone()];
        let times = block.times.clone().unwrap();
        let done = match (self, careful) {
            (Operator::Keyed(operator), None) => operator.handle_block(0, &keys, &block, guest),
            (Operator::Keyed(operator), Some(careful)) => {
                operator.handle_block(0, &keys, &block, &mut careful.calls(guest))
            }
            (Operator::Window(operator), None) => operator.handle_block(&keys, &times, &block, guest, &mut Vec::new()),
            (Operator::Window(operator), Some(careful)) => {
                operator.handle_block_carefully(&keys, &times, &block, &mut careful.calls(guest), &mut Vec::new())
            }
        };
        done.unwrap();
    }

    fn watermark(&mut self, watermark: Millis, guest: &mut Guest, mut careful: Option<&mut Careful>) {
        match self {
            Operator::Keyed(operator) => operator.handle_watermark(watermark),
            Operator::Window(operator) => operator.handle_watermark(watermark),
        }
        loop {
            let more = match (&mut *self, &mut careful) {
                (Operator::Keyed(operator), None) => operator.fire(guest),
                (Operator::Keyed(operator), Some(careful)) => operator.fire(&mut careful.calls(guest)),
                (Operator::Window(operator), None) => operator.fire(guest),
                (Operator::Window(operator), Some(careful)) => operator.fire(&mut careful.calls(guest)),
            };
            if !more.unwrap() {
                return;
            }
        }
    }

    fn begin_snapshot(&mut self, full: bool) {
        match self {
            Operator::Keyed(operator) => operator.begin_snapshot(full),
            Operator::Window(operator) => operator.begin_snapshot(full),
        }
        .unwrap();
    }

    fn export_some(&mut self, limit: usize, guest: &mut Guest) -> Option<TableDelta> {
        match self {
            Operator::Keyed(operator) => {
                operator.export_some(limit, guest).unwrap();
                operator.finish_snapshot()
            }
            Operator::Window(operator) => {
                operator.export_some(limit, guest).unwrap();
                operator.finish_snapshot()
            }
        }
    }

    /// Lets windows hold next to nothing in the guest.
    fn put_tier(&mut self, keeps: bool) {
        if let Operator::Window(operator) = self {
            let tier = Box::new(TreeTier::new(keeps));
            operator.set_lower_tier(tier, &state(), 64, 3).unwrap();
        }
    }

    fn slot_count(&self) -> usize {
        match self {
            Operator::Keyed(operator) => operator.slot_count(),
            Operator::Window(operator) => operator.slot_count(),
        }
    }

    fn timer_count(&self) -> usize {
        match self {
            Operator::Keyed(operator) => operator.timer_count(),
            Operator::Window(_) => 0,
        }
    }

    fn restore(&mut self, watermark: Millis, batch: &RecordBatch, function: &mut Guest, careful: Option<&mut Careful>) {
        let restored = match (self, careful) {
            (Operator::Keyed(operator), None) => operator.restore(batch, function),
            (Operator::Keyed(operator), Some(careful)) => operator.restore(batch, &mut careful.calls(function)),
            (Operator::Window(operator), None) => {
                operator.restore_watermark(watermark);
                operator.restore(batch, function)
            }
            (Operator::Window(operator), Some(careful)) => {
                operator.restore_watermark(watermark);
                operator.restore(batch, &mut careful.calls(function))
            }
        };
        restored.unwrap();
    }
}

/// What layers hold, whatever the slots: values in order, and how many slots and timers.
fn content(kind: &Kind, watermark: Millis, layers: &[RecordBatch]) -> (Vec<Vec<i64>>, usize, usize) {
    let (mut operator, mut guest) = (Operator::new(kind), Guest::new(NONE, true, false));
    for layer in layers {
        operator.restore(watermark, layer, &mut guest, None);
    }
    let mut values = guest.values.borrow().values().cloned().collect::<Vec<_>>();
    values.sort();
    (values, operator.slot_count(), operator.timer_count())
}

struct Pair {
    kind: Kind,
    /// The careful operator has a tier, which may keep what was got.
    tier: Option<bool>,
    careful: Careful,
    replacer: Rc<Replacer>,
    operators: [Operator; 2],
    guests: [Guest; 2],
    layers: Vec<RecordBatch>,
    watermark: Millis,
    rows_aside: usize,
    others_aside: usize,
}

impl Pair {
    fn rows(&mut self, rows: &[(i64, i64, Millis)]) {
        self.operators[0].rows(rows, &mut self.guests[0], Some(&mut self.careful));
        let (gone, others) = set_aside(&mut self.careful);
        self.rows_aside += gone.len();
        self.others_aside += others;
        // One by one: rows within the lateness fire windows once per block.
        for row in rows.iter().filter(|row| !gone.contains(&row.1)) {
            self.operators[1].rows(&[*row], &mut self.guests[1], None);
        }
        self.compare();
    }

    fn watermark(&mut self, watermark: Millis) {
        self.watermark = self.watermark.max(watermark);
        self.operators[0].watermark(watermark, &mut self.guests[0], Some(&mut self.careful));
        self.operators[1].watermark(watermark, &mut self.guests[1], None);
        let (gone, others) = set_aside(&mut self.careful);
        assert!(gone.is_empty() && self.careful.can_end());
        self.others_aside += others;
        self.compare();
    }

    fn compare(&mut self) {
        let [mut got, mut expected] = [0, 1].map(|at| std::mem::take(&mut self.guests[at].out));
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
        assert_eq!(self.operators[0].slot_count(), self.operators[1].slot_count());
        assert_eq!(self.operators[0].timer_count(), self.operators[1].timer_count());
        if self.tier.is_some() {
            return;
        }
        let held = [0, 1].map(|at| {
            let mut values = self.guests[at].values.borrow().values().cloned().collect::<Vec<_>>();
            values.sort();
            values
        });
        assert_eq!(held[0], held[1]);
    }

    /// The plain operator's state now.
    fn plain_content(&mut self) -> (Vec<Vec<i64>>, usize, usize) {
        self.operators[1].begin_snapshot(true);
        let full = self.operators[1].export_some(usize::MAX, &mut self.guests[1]);
        content(&self.kind, self.watermark, &full.unwrap().batches)
    }

    /// Both go on from the layers taken so far.
    fn restart(&mut self) {
        for at in [0, 1] {
            self.operators[at] = Operator::new(&self.kind);
            self.guests[at].values.borrow_mut().clear();
        }
        (self.careful, self.replacer) = careful(&self.guests[0], true);
        for layer in &self.layers {
            self.operators[0].restore(self.watermark, layer, &mut self.guests[0], Some(&mut self.careful));
            self.operators[1].restore(self.watermark, layer, &mut self.guests[1], None);
        }
        if let [Operator::Keyed(one), Operator::Keyed(other)] = &mut self.operators {
            one.restore_watermark(self.watermark);
            other.restore_watermark(self.watermark);
        }
        if let Some(keeps) = self.tier {
            self.operators[0].put_tier(keeps);
        }
        self.compare();
    }
}

fn run(kind: &Kind, poison: Poison, seed: u64, tier: Option<bool>) -> (usize, usize, usize) {
    let mut random = Random::new(seed);
    let always_writes = matches!(kind, Kind::Keyed { always_writes: true });
    let guests = [false, true].map(|plain| Guest::new(poison, plain, always_writes));
    let (careful, replacer) = careful(&guests[0], true);
    let mut pair = Pair {
        kind: kind.clone(),
        tier,
        careful,
        replacer,
        operators: [0, 1].map(|_| Operator::new(kind)),
        guests,
        layers: Vec::new(),
        watermark: Millis::MIN,
        rows_aside: 0,
        others_aside: 0,
    };
    if let Some(keeps) = tier {
        pair.operators[0].put_tier(keeps);
    }
    let (key_count, spread) = (1 + random.below(30), 1 + random.below(120));
    let (mut number, mut base, mut barrier, mut replaced) = (0, 0, None, 0);
    for _ in 0..60 {
        let rows = (0..random.below(12)).map(|_| {
            number += 1;
            let time = base + random.below(spread) as Millis;
            (random.below(key_count) as i64, number, time)
        });
        let rows = rows.collect::<Vec<_>>();
        if !rows.is_empty() {
            pair.rows(&rows);
        }
        base += random.below(20) as Millis;
        // Not while a snapshot is under way that is compared below: what is over then is not exported.
        if random.below(3) == 0 && barrier.is_none() {
            pair.watermark(base - 10);
        }
        barrier = match barrier.take() {
            None if random.below(3) == 0 => {
                let content = pair.plain_content();
                pair.operators[0].begin_snapshot(random.below(10) == 0);
                Some(content)
            }
            None => None,
            Some(expected) => match pair.operators[0].export_some(1 + random.below(9) as usize, &mut pair.guests[0]) {
                None => Some(expected),
                Some(delta) => {
                    if delta.full {
                        pair.layers.clear();
                    }
                    if let Some(cold) = &delta.cold {
                        let mut read = |batch| {
                            pair.layers.push(batch);
                            Ok(())
                        };
                        cold.read(&mut read).unwrap();
                    }
                    pair.layers.extend(delta.batches);
                    assert_eq!(content(kind, pair.watermark, &pair.layers), expected);
                    replaced += *pair.replacer.count.borrow();
                    if random.below(3) == 0 {
                        pair.restart();
                    } else {
                        *pair.replacer.count.borrow_mut() = 0;
                    }
                    None
                }
            },
        };
    }
    pair.watermark(Millis::MAX);
    replaced += *pair.replacer.count.borrow();
    (pair.rows_aside, pair.others_aside, replaced)
}

fn run_all(kind: &Kind, poison: Poison, tier: Option<bool>) -> (usize, usize) {
    let (mut rows, mut others, mut replaced) = (0, 0, 0);
    for seed in 0..25 {
        let (more_rows, more_others, more_replaced) = run(kind, poison, seed, tier);
        rows += more_rows;
        others += more_others;
        replaced += more_replaced;
    }
    assert!(
        replaced > 0 && replaced <= rows + others,
        "{replaced} for {rows} and {others}"
    );
    (rows, others)
}

#[test]
fn keyed_rows_and_timers_that_trap_take_nothing_with_them() {
    for always_writes in [false, true] {
        let poison = Poison {
            row: 7,
            timer: 5,
            ..NONE
        };
        let (rows, others) = run_all(&Kind::Keyed { always_writes }, poison, None);
        assert!(rows > 300, "{rows} rows");
        assert_eq!(others > 100, !always_writes, "{others} timers");
    }
}

#[test]
fn windows_and_their_rows_that_trap_take_nothing_with_them() {
    let sliding = |size_ms, slide_ms| WindowAssigner::Sliding {
        size_ms,
        slide_ms,
        offset_ms: -3,
    };
    let tumbling = WindowAssigner::Tumbling {
        size_ms: 25,
        offset_ms: 7,
    };
    let sessions = [3, 20].map(|gap_ms| WindowAssigner::Session { gap_ms });
    let assigners = [tumbling, sliding(60, 25), sliding(10, 30)];
    for assigner in assigners.into_iter().chain(sessions) {
        for allowed_lateness_ms in [0, 40] {
            let decl = WindowDecl {
                assigner,
                allowed_lateness_ms,
                late_ports: Vec::new(),
            };
            let poison = Poison {
                row: 7,
                window: 4,
                merge: 5,
                ..NONE
            };
            let kind = Kind::Window(decl);
            let (rows, others) = run_all(&kind, poison, None);
            assert!(rows > 300 && others > 50, "{rows} rows and {others} windows");
            // From a tier a window of one slice, and the first slice of any, is taken as it is and not merged.
            let merge = if matches!(assigner, WindowAssigner::Session { .. }) {
                5
            } else {
                0
            };
            for keeps in [false, true] {
                let (rows, others) = run_all(&kind, Poison { merge, ..poison }, Some(keeps));
                assert!(rows > 300 && others > 50, "{rows} rows and {others} windows");
            }
        }
    }
}

/// Chains that have not trapped keep their blocks whole: after a replacement they hold what they held.
#[test]
fn a_chain_beside_the_one_that_traps_gets_its_state_back() {
    let kinds = [
        Kind::Keyed { always_writes: false },
        Kind::Keyed { always_writes: true },
        Kind::Window(WindowDecl {
            assigner: WindowAssigner::Sliding {
                size_ms: 60,
                slide_ms: 20,
                offset_ms: 0,
            },
            allowed_lateness_ms: 0,
            late_ports: Vec::new(),
        }),
        Kind::Window(WindowDecl {
            assigner: WindowAssigner::Session { gap_ms: 10 },
            allowed_lateness_ms: 15,
            late_ports: Vec::new(),
        }),
    ];
    for kind in kinds {
        let always_writes = matches!(kind, Kind::Keyed { always_writes: true });
        let mut random = Random::new(3);
        let mut guest = Guest::new(NONE, false, always_writes);
        let (mut careful, replacer) = careful(&guest, false);
        let mut operator = Operator::new(&kind);
        for step in 0..200 {
            let rows = (0..30).map(|row| {
                (
                    random.below(20) as i64,
                    step * 30 + row,
                    step * 5 + random.below(40) as i64,
                )
            });
            operator.rows(&rows.collect::<Vec<_>>(), &mut guest, Some(&mut careful));
            operator.watermark(step * 5, &mut guest, Some(&mut careful));
            let before = guest.values.borrow().clone();
            for values in guest.values.borrow_mut().values_mut() {
                values.push(-1);
            }
            replacer.replace().unwrap();
            assert_eq!(*guest.values.borrow(), before);
        }
        assert!(careful.take_quarantined().is_empty() && careful.memory_bytes() > 0);
    }
}

/// A failure that no entry is to blame for ends the job, as ever.
#[test]
fn other_failures_come_through() {
    struct Broken(Guest);
    impl StateFunction for Broken {
        fn export_state(&mut self, state: u32, slots: &[Slot]) -> Result<ArrayRef> {
            self.0.export_state(state, slots)
        }
        fn import_state(&mut self, state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
            self.0.import_state(state, slots, values)
        }
        fn drop_state(&mut self, slots: &[Slot]) -> Result<()> {
            self.0.drop_state(slots)
        }
    }
    impl TriedFunction for Broken {
        fn mark(&mut self) {}
        fn undo(&mut self) {
            unreachable!("nothing is tried again")
        }
        fn take_fault(&mut self) -> Option<CallFault> {
            None
        }
    }
    impl KeyedFunction for Broken {
        fn process(&mut self, _: u32, _: &[Slot], _: &Block) -> Result<Effects> {
            Err(Error::pipeline("PL0007", "the guest broke the contract"))
        }
        fn timers(&mut self, _: TimerKind, _: &[Slot], _: &[Millis], _: &[ArrayRef]) -> Result<Effects> {
            unreachable!("none is set")
        }
    }
    let mut broken = Broken(Guest::new(NONE, false, false));
    let (mut careful, replacer) = careful(&broken.0, true);
    let mut operator = KeyedOperator::new(key_schema(), 1, false).unwrap();
    let block = block(&[(1, 1, 1)]);
    let keys = [block.rows.column(0).clone()];
    let error = operator.handle_block(0, &keys, &block, &mut careful.calls(&mut broken));
    assert_eq!(error.unwrap_err().code(), "PL0007");
    assert_eq!(*replacer.count.borrow(), 0);
    assert!(careful.take_quarantined().is_empty());
}
