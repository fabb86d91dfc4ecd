//! Runs chains outside wasm, call by call: what tests of this crate's side of the contract are made of.
//!
//! Hidden: pipelines are tested with [`testing`](crate::testing), which makes the calls that a host makes.

use crate::Flow;
use crate::abi::Instance;
use crate::abi::host::{Recorded, recorded};
use crate::bindings::dataflow::{Chain, Graph, Head, StateDecl};
use crate::bindings::operators::{CallError, CallResult, Moment, OpenConfig, TimerKind};
use crate::bindings::types;
use crate::block::{Block, BlockWriter};
use crate::chain::Work;
use crate::chain::exit::to_contract;
use crate::testing::{Collection, Collections, Datum, columns, enter, leave};
use crate::value::{Builder, Owned, Record, Value};

pub use crate::bindings::diagnostics::Level;

/// A pipeline that was built, with its chains open.
pub struct Harness {
    graph: Graph,
    instance: Instance,
    config: OpenConfig,
    /// Large states by chain.
    collections: Vec<Collections>,
    /// What time the next calls are told.
    pub at: Moment,
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness")
            .field("graph", &self.graph)
            .finish_non_exhaustive()
    }
}

/// What a call did.
#[derive(Debug)]
pub struct Called {
    /// As the contract has it.
    pub result: CallResult,
    /// Blocks that left before the end.
    pub staged: Vec<(u32, types::Block)>,
    time_out: bool,
}

impl Harness {
    /// Builds a pipeline and opens its chains, without event time.
    pub fn build(build: impl FnOnce(&Flow)) -> Result<Harness, String> {
        Harness::build_with(build, |_| {})
    }

    /// Builds a pipeline and opens its chains as configured.
    pub fn build_with(build: impl FnOnce(&Flow), configure: impl FnOnce(&mut OpenConfig)) -> Result<Harness, String> {
        recorded(|recorded| *recorded = Recorded::default());
        let flow = Flow::new();
        build(&flow);
        let finished = flow.finish()?;
        let mut config = OpenConfig {
            subtask: 0,
            parallelism: 1,
            max_parallelism: 128,
            attempt: 0,
            time_in: false,
            time_out: false,
            careful: false,
        };
        configure(&mut config);
        let mut harness = Harness {
            collections: finished
                .graph
                .chains
                .iter()
                .map(|chain| collections(&finished.graph, chain))
                .collect(),
            graph: finished.graph,
            instance: Instance::new(finished.chains),
            config,
            at: Moment {
                watermark: i64::MIN,
                now: 0,
            },
        };
        for chain in 0..harness.graph.chains.len() as u32 {
            harness
                .instance
                .open(chain, &harness.config)
                .map_err(|error| error.message)?;
        }
        Ok(harness)
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Number of the operator with that name.
    pub fn operator(&self, name: &str) -> u32 {
        let found = self.graph.operators.iter().position(|operator| operator.name == name);
        found.unwrap_or_else(|| panic!("no operator is named `{name}`")) as u32
    }

    /// Number of the chain of the operator with that name.
    pub fn chain(&self, operator: &str) -> u32 {
        let operator = self.operator(operator);
        let found = self
            .graph
            .chains
            .iter()
            .position(|chain| chain.operators.contains(&operator));
        found.unwrap_or_else(|| panic!("operator {operator} is in no chain")) as u32
    }

    fn call(&mut self, chain: u32, work: &Work<'_>) -> Result<Called, CallError> {
        let mut states = std::mem::take(&mut self.collections[chain as usize]);
        if let Work::Rows { slots, .. } | Work::Timers { slots, .. } = work {
            // A slot stands for its key.
            let keys: Vec<_> = slots.iter().map(|slot| vec![Datum::Integer((*slot).into())]).collect();
            states
                .values_mut()
                .for_each(|state| state.begin_call(&keys, self.at.now));
        }
        enter(states);
        let result = self.instance.call(chain, self.at, work);
        let mut states = leave();
        let result = result?;
        for writes in &result.collections {
            states
                .get_mut(&writes.state)
                .expect("only large states are written so")
                .apply(writes);
        }
        self.collections[chain as usize] = states;
        Ok(self.called(result))
    }

    fn called(&self, result: CallResult) -> Called {
        assert_eq!(position(), (None, None), "no user code runs between calls");
        Called {
            result,
            staged: recorded(|recorded| std::mem::take(&mut recorded.blocks)),
            time_out: self.config.time_out,
        }
    }

    /// Rows through a stateless chain.
    pub fn process(&mut self, chain: u32, block: &Block) -> Called {
        self.process_input(chain, 0, &[], block)
    }

    /// Rows through a keyed chain.
    pub fn process_keyed(&mut self, chain: u32, slots: &[u32], block: &Block) -> Called {
        self.process_input(chain, 0, slots, block)
    }

    /// Rows of an input through a chain; without slots if it is stateless.
    pub fn process_input(&mut self, chain: u32, input: u32, slots: &[u32], block: &Block) -> Called {
        let work = Work::Rows { block, slots, input };
        self.call(chain, &work).expect("the call is right")
    }

    /// Timers that are due.
    pub fn timers(&mut self, chain: u32, kind: TimerKind, slots: &[u32], times: &[i64], keys: &Block) -> Called {
        let work = Work::Timers {
            kind,
            slots,
            times,
            keys,
        };
        self.call(chain, &work).expect("the call is right")
    }

    /// Rows to accumulators.
    pub fn accumulate(&mut self, chain: u32, slots: &[u32], block: &Block) -> Called {
        self.accumulate_input(chain, 0, slots, block)
    }

    /// Rows of an input to accumulators.
    pub fn accumulate_input(&mut self, chain: u32, input: u32, slots: &[u32], block: &Block) -> Called {
        let result = self.instance.accumulate(chain, input, self.at, slots, block);
        self.called(result.expect("the call is right"))
    }

    /// Accumulators to accumulators.
    pub fn merge(&mut self, chain: u32, targets: &[u32], sources: &[u32]) {
        let head = self.instance.head(chain).expect("there is such a chain");
        head.merge(targets, sources).expect("the call is right");
    }

    /// Results of windows.
    pub fn emit(&mut self, chain: u32, slots: &[u32], windows: &[(i64, i64)], keys: &Block, then_drop: bool) -> Called {
        let (starts, ends): (Vec<i64>, Vec<i64>) = windows.iter().copied().unzip();
        let work = Work::Windows {
            slots,
            starts: &starts,
            ends: &ends,
            keys,
            then_drop,
        };
        self.call(chain, &work).expect("the call is right")
    }

    /// Values of a state.
    pub fn export<V: Owned>(&mut self, chain: u32, state: u32, slots: &[u32]) -> Vec<Option<V>> {
        let block = self.export_block(chain, state, slots);
        crate::state::kept::read_values(&block).collect()
    }

    /// Values of a state, as a block.
    pub fn export_block(&mut self, chain: u32, state: u32, slots: &[u32]) -> Block {
        let head = self.instance.head(chain).expect("there is such a chain");
        head.export_state(state, slots).expect("the call is right")
    }

    /// Sets values of a state.
    pub fn import_block(&mut self, chain: u32, state: u32, slots: &[u32], values: &Block) {
        let head = self.instance.head(chain).expect("there is such a chain");
        head.import_state(state, slots, values).expect("the call is right");
    }

    /// Forgets slots.
    pub fn drop_state(&mut self, chain: u32, slots: &[u32]) {
        self.instance
            .head(chain)
            .expect("there is such a chain")
            .drop_state(slots);
    }

    /// Log lines so far.
    pub fn lines(&self) -> Vec<(Level, String)> {
        recorded(|recorded| recorded.lines.clone())
    }

    /// Positions reported in careful mode: operator, entry.
    pub fn positions(&self) -> Vec<(u32, u32)> {
        recorded(|recorded| recorded.positions.clone())
    }

    /// What a metric holds: one value for counters and gauges, all values of a histogram.
    pub fn metric(&self, operator: u32, name: &str) -> Vec<f64> {
        recorded(|recorded| {
            let found = recorded
                .metrics
                .iter()
                .position(|metric| metric.0 == operator && metric.1 == name);
            found.map_or(Vec::new(), |index| recorded.values[index].clone())
        })
    }
}

impl Called {
    /// Blocks of a port, in order.
    pub fn blocks(&self, port: u32) -> Vec<Block> {
        let outputs = self.result.outputs.iter().map(|output| (output.port, &output.block));
        let staged = self.staged.iter().map(|(port, block)| (*port, block));
        let block = |block: &types::Block| Block::new(block.rows, block.data.clone(), block.ends.clone());
        let of_port = staged.chain(outputs).filter(|(number, _)| *number == port);
        of_port.map(|(_, rows)| block(rows)).collect()
    }

    /// Rows of a port.
    pub fn rows<T: Record + Owned>(&self, port: u32) -> Vec<T> {
        let blocks = self.blocks(port);
        blocks.iter().flat_map(|block| read::<T>(block)).collect()
    }

    /// Rows of a port with their `$time`.
    pub fn timed<T: Record + Owned>(&self, port: u32) -> Vec<(i64, T)> {
        assert!(self.time_out, "the chain was opened without `$time`");
        self.with_system::<T, i64>(port)
            .into_iter()
            .map(|(row, time)| (time, row))
            .collect()
    }

    /// Rows of a port whose `$time` does not matter.
    pub fn rows_of_time<T: Record + Owned>(&self, port: u32) -> Vec<T> {
        self.timed(port).into_iter().map(|(_, row)| row).collect()
    }

    /// Rows of a port with what comes after them: a computed time or key.
    pub fn with_system<T: Record + Owned, S: Owned>(&self, port: u32) -> Vec<(T, S)> {
        let mut rows = Vec::new();
        for block in self.blocks(port) {
            let mut buffers = block.buffers();
            let columns = T::column(&mut buffers, block.rows());
            let system = S::column(&mut buffers, block.rows());
            assert!(buffers.is_empty(), "the block has more columns than it should");
            rows.extend((0..block.rows()).map(|row| (T::get(&columns, row), S::get(&system, row))));
        }
        rows
    }

    /// Refused entries: entry, operator, cause.
    pub fn rejections(&self) -> Vec<(u32, u32, String)> {
        let rejections = &self.result.rejections;
        let mut start = 0;
        let mut cause = |end: u32| {
            let cause = rejections.causes[start..end as usize].to_owned();
            start = end as usize;
            cause
        };
        let columns = rejections
            .entries
            .iter()
            .zip(&rejections.operators)
            .zip(&rejections.cause_ends);
        columns
            .map(|((&entry, &operator), &end)| (entry, operator, cause(end)))
            .collect()
    }

    /// Timer operations: entry, time, action.
    pub fn timers(&self) -> Vec<(u32, i64, u8)> {
        let timers = &self.result.timers;
        let columns = timers.entries.iter().zip(&timers.times).zip(&timers.actions);
        columns
            .map(|((&entry, &time), &action)| (entry, time, action))
            .collect()
    }
}

/// The large states of a chain, empty.
fn collections(graph: &Graph, chain: &Chain) -> Collections {
    let Head::Keyed(keyed) = &chain.head else {
        return Collections::new();
    };
    let states = (0..).zip(&keyed.states);
    let empty = |(number, state): (u32, &StateDecl)| {
        let columns = columns(&graph.schemas[state.schema as usize]);
        Some((number, Collection::declared(state, &columns)?))
    };
    states.filter_map(empty).collect()
}

/// Where user code is, or was when it panicked: operator, entry.
pub fn position() -> (Option<u32>, Option<u32>) {
    crate::position::current()
}

/// Rows as a block.
pub fn block<T: Record + Owned>(rows: impl IntoIterator<Item = T>) -> Block {
    let mut builder = T::Builder::default();
    rows.into_iter().for_each(|row| T::push(&mut builder, row));
    let rows = builder.rows();
    let mut writer = BlockWriter::default();
    builder.finish(&mut writer);
    writer.finish(rows)
}

/// Rows with their `$time` as a block.
pub fn timed_block<T: Record + Owned>(rows: impl IntoIterator<Item = (i64, T)>) -> Block {
    let (mut builder, mut times) = (T::Builder::default(), <i64 as Value>::Builder::default());
    for (time, row) in rows {
        T::push(&mut builder, row);
        i64::push(&mut times, time);
    }
    let rows = builder.rows();
    let mut writer = BlockWriter::default();
    builder.finish(&mut writer);
    times.finish(&mut writer);
    writer.finish(rows)
}

/// Keys as a block in the key schema of one column.
pub fn keys<K: Owned>(keys: impl IntoIterator<Item = K>) -> Block {
    let mut builder = K::Builder::default();
    keys.into_iter().for_each(|key| K::push(&mut builder, key));
    let rows = builder.rows();
    let mut writer = BlockWriter::default();
    builder.finish(&mut writer);
    writer.finish(rows)
}

/// Rows of a block.
pub fn read<T: Record + Owned>(block: &Block) -> Vec<T> {
    let mut buffers = block.buffers();
    let columns = T::column(&mut buffers, block.rows());
    (0..block.rows()).map(|row| T::get(&columns, row)).collect()
}

/// A block as the contract has it, and back.
pub fn round_trip(block: Block) -> Block {
    let block = to_contract(block);
    Block::new(block.rows, block.data, block.ends)
}
