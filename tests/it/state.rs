//! State out of one instance and into another: value, list and map states, window accumulators.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use millrace_core::block::Block;
use millrace_core::function::{KeyedFunction, Slot, StateFunction, WindowFunction};
use millrace_core::graph::{Graph, Head, StateKind};
use millrace_tests::guests::{Guest, code_cache};
use millrace_tests::jobs::parameters;
use millrace_wasm::{GuestChain, Limits, OpenConfig, Pipeline, Runtime};

/// An instance of `flows` that has built the pipeline `states`.
struct Fresh {
    chain: GuestChain,
    input: SchemaRef,
    /// Kind and schema of each state.
    states: Vec<(StateKind, SchemaRef)>,
}

fn pipeline() -> Pipeline {
    let runtime = Runtime::new(Limits::default(), Some(code_cache())).expect("an engine");
    runtime.load(Guest::Flows.bytes()).expect("a pipeline")
}

/// The keyed chain of a new instance, or its windowed one.
fn fresh(pipeline: &Pipeline, windowed: bool) -> Fresh {
    let log: millrace_wasm::LogSink = Arc::new(|_, _| ());
    let declared = pipeline.parameters(log.clone()).expect("parameters");
    let given = parameters(&[("kind", "states")]);
    let given = millrace_engine::resolve_parameters(&declared, &given).expect("right parameters");
    let mut instance = pipeline.instantiate(0, log).expect("an instance");
    let graph: Graph = instance.build(&given).expect("a graph");
    let is_wanted = |head: &Head| match head {
        Head::Stateless => false,
        Head::Keyed { .. } => !windowed,
        Head::Window { .. } => windowed,
    };
    let index = graph
        .chains
        .iter()
        .position(|chain| is_wanted(&chain.head))
        .expect("the chain");
    let states = match &graph.chains[index].head {
        Head::Keyed { states, .. } => states.clone(),
        Head::Window { accumulator, .. } => vec![accumulator.clone()],
        Head::Stateless => Vec::new(),
    };
    let config = OpenConfig {
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        attempt: 0,
        time_in: false,
        time_out: false,
        careful: false,
    };
    let instance = Rc::new(RefCell::new(instance));
    let chain = GuestChain::open(pipeline.clone(), given.into(), instance, &graph, index as u32, config);
    Fresh {
        chain: chain.expect("an open chain"),
        input: graph.chains[index].inputs[0].clone(),
        states: states.into_iter().map(|state| (state.kind, state.schema)).collect(),
    }
}

impl Fresh {
    fn rows(&self, slots: &[Slot], values: &[i64]) -> Block {
        let keys: Vec<i64> = slots.iter().map(|slot| i64::from(*slot) * 10).collect();
        let times: Vec<i64> = (0..values.len() as i64).collect();
        let columns = [keys, values.to_vec(), times].map(|column| Arc::new(Int64Array::from(column)) as ArrayRef);
        Block::new(RecordBatch::try_new(self.input.clone(), columns.to_vec()).expect("the schema of events"))
    }

    fn process(&mut self, slots: &[Slot], values: &[i64]) -> Vec<RecordBatch> {
        let rows = self.rows(slots, values);
        KeyedFunction::process(&mut self.chain, 0, slots, &rows).expect("a call that returns");
        let output = self.chain.take_output();
        output.blocks.into_iter().map(|(_, block)| block.rows).collect()
    }

    fn export(&mut self, slots: &[Slot]) -> Vec<ArrayRef> {
        let states = 0..self.states.len() as u32;
        let export = |state| self.chain.export_state(state, slots).expect("an export");
        states.map(export).collect()
    }

    fn import(&mut self, slots: &[Slot], values: &[ArrayRef]) {
        for (state, column) in (0u32..).zip(values) {
            self.chain.import_state(state, slots, column).expect("an import");
        }
    }
}

const SLOTS: [Slot; 5] = [0, 1, 2, 5_000, 9_999];

/// Slots 0, 1 and 5,000 hold something, 2 held something, 9,999 never did.
fn filled(pipeline: &Pipeline) -> Fresh {
    let mut fresh = fresh(pipeline, false);
    fresh.process(&[0, 1, 2, 0, 5_000], &[7, 8, 9, 10, 12]);
    fresh.process(&[0, 2, 1], &[13, -1, 14]);
    fresh
}

#[test]
fn exported_values_are_what_the_function_wrote() {
    let mut fresh = filled(&pipeline());
    let kinds: Vec<StateKind> = fresh.states.iter().map(|(kind, _)| *kind).collect();
    let value = StateKind::Value;
    assert_eq!(kinds, [value, value, value, StateKind::List, StateKind::Map]);
    let columns = fresh.export(&SLOTS);
    for column in &columns {
        let present: Vec<bool> = (0..column.len()).map(|row| column.is_valid(row)).collect();
        assert_eq!(present, [true, true, false, true, false], "{column:?}");
    }
    let numbers: &Int64Array = columns[0].as_any().downcast_ref().expect("int64");
    assert_eq!(
        numbers.iter().collect::<Vec<_>>(),
        [Some(30), Some(22), None, Some(12), None]
    );
    let texts: &StringArray = columns[1].as_any().downcast_ref().expect("utf8");
    assert_eq!((texts.value(0), texts.value(3)), ("text 13", "text 12"));
    let lists: &ListArray = columns[3].as_any().downcast_ref().expect("list");
    let items = lists.value(0);
    let items: &StringArray = items.as_any().downcast_ref().expect("utf8");
    let items: Vec<&str> = items.iter().flatten().collect();
    assert_eq!(items, ["item 7", "item 10", "item 13"]);
}

#[test]
fn imported_state_goes_on_where_it_was_exported() {
    let pipeline = pipeline();
    let mut before = filled(&pipeline);
    let columns = before.export(&SLOTS);
    // Other slots: the host may give a key any number.
    let renumbered: [Slot; 5] = [70, 3, 12_345, 4_096, 0];
    let mut after = fresh(&pipeline, false);
    after.import(&renumbered, &columns);
    assert_eq!(after.export(&renumbered), columns);
    let told = |fresh: &mut Fresh, slots: &[Slot]| {
        let blocks = fresh.process(slots, &[1, 2, 3, 4, 5]);
        // The key tells the slot, which differs.
        let columns: Vec<ArrayRef> = blocks.iter().flat_map(|block| block.columns()[1..].to_vec()).collect();
        columns
    };
    assert_eq!(told(&mut after, &renumbered), told(&mut before, &SLOTS));
    assert_eq!(after.export(&renumbered), before.export(&SLOTS));
}

#[test]
fn an_import_replaces_what_was_there() {
    let pipeline = pipeline();
    let mut fresh = filled(&pipeline);
    let columns = fresh.export(&SLOTS);
    let turned: Vec<Slot> = SLOTS.iter().rev().copied().collect();
    fresh.import(&turned, &columns);
    assert_eq!(fresh.export(&turned), columns);
}

#[test]
fn dropped_state_is_gone_and_the_rest_stays() {
    let mut fresh = filled(&pipeline());
    let kept = fresh.export(&[1]);
    StateFunction::drop_state(&mut fresh.chain, &[0, 2, 5_000, 9_999]).expect("a drop");
    for column in fresh.export(&[0, 2, 5_000, 9_999]) {
        assert_eq!(column.null_count(), 4, "{column:?}");
    }
    assert_eq!(fresh.export(&[1]), kept);
    // A slot seen again after a drop holds nothing.
    fresh.process(&[0], &[5]);
    let columns = fresh.export(&[0]);
    let numbers: &Int64Array = columns[0].as_any().downcast_ref().expect("int64");
    assert_eq!(numbers.value(0), 5);
}

#[test]
fn accumulators_are_exported_merged_and_imported() {
    let pipeline = pipeline();
    let mut before = fresh(&pipeline, true);
    let slots: [Slot; 4] = [0, 1, 5_000, 0];
    let rows = before.rows(&slots, &[1, 2, 3, 4]);
    before.chain.accumulate(&slots, &rows).expect("a call that returns");
    let columns = before.export(&[0, 1, 5_000]);
    let mut after = fresh(&pipeline, true);
    after.import(&[8, 9, 10], &columns);
    assert_eq!(after.export(&[8, 9, 10]), columns);

    let emitted = |fresh: &mut Fresh, slots: &[Slot]| {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..slots.len() as i64));
        let (starts, ends) = (vec![0; slots.len()], vec![10; slots.len()]);
        fresh
            .chain
            .emit(slots, &starts, &ends, &[keys], false)
            .expect("a call that returns");
        let output = fresh.chain.take_output();
        output
            .blocks
            .into_iter()
            .map(|(_, block)| block.rows)
            .collect::<Vec<_>>()
    };
    before.chain.merge(&[0, 1], &[5_000, 0]).expect("a merge");
    after.chain.merge(&[8, 9], &[10, 8]).expect("a merge");
    let told = emitted(&mut before, &[0, 1, 5_000]);
    assert_eq!(told, emitted(&mut after, &[8, 9, 10]));
    let sums: &Int64Array = told[0].column(1).as_any().downcast_ref().expect("int64");
    assert_eq!(sums.values(), &[8, 10, 3]);

    StateFunction::drop_state(&mut after.chain, &[8]).expect("a drop");
    let sums = emitted(&mut after, &[8, 9]);
    let sums: &Int64Array = sums[0].column(1).as_any().downcast_ref().expect("int64");
    assert_eq!(sums.values(), &[0, 10]);
}
