//! What the guest asks of the host, with stand-ins outside wasm so that pipelines can be tested natively.
//!
//! Outside wasm, log lines and panics go to stderr, staged blocks and metrics are kept for the test to look
//! at, large states are those of the chain that is called, and the clock is what the test sets.

#[cfg(target_arch = "wasm32")]
pub(crate) use component::*;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;

pub(crate) use crate::bindings::diagnostics::{Level, MetricKind};

#[cfg(target_arch = "wasm32")]
mod component {
    use super::{Level, MetricKind};
    use crate::bindings::{collections, diagnostics, emit, environment, types};
    use crate::block::Block;
    use crate::chain::exit::to_contract;
    use crate::position;

    pub(crate) fn log(level: Level, message: &str) {
        diagnostics::log(level, message);
    }

    pub(crate) fn panicked(operator: Option<u32>, entry: Option<u32>, message: &str) {
        diagnostics::panicked(operator, entry, message);
    }

    pub(crate) fn position(operator: u32, entry: u32) {
        diagnostics::position(operator, entry);
    }

    pub(crate) fn register_metric(operator: u32, name: &str, kind: MetricKind) -> u32 {
        diagnostics::register_metric(operator, name, kind)
    }

    pub(crate) fn add_counters(metrics: &[u32], deltas: &[u64]) {
        diagnostics::add_counters(metrics, deltas);
    }

    pub(crate) fn set_gauges(metrics: &[u32], values: &[f64]) {
        diagnostics::set_gauges(metrics, values);
    }

    pub(crate) fn record_values(metric: u32, values: &[f64]) {
        diagnostics::record_values(metric, values);
    }

    pub(crate) fn emit_block(port: u32, block: types::Block) {
        emit::emit_block(port, &block);
    }

    pub(crate) fn now() -> i64 {
        environment::now()
    }

    pub(crate) fn random(length: u32) -> Vec<u8> {
        environment::random(length)
    }

    fn received(block: types::Block) -> Block {
        Block::from_host(block.rows, block.data, block.ends)
    }

    /// Which keys of a large map are there, and the values of those.
    pub(crate) fn map_get(state: u32, entries: &[u32], keys: Block) -> (Vec<u8>, Block) {
        let got = collections::map_get(position::chain(), state, entries, &to_contract(keys));
        (got.found, received(got.values))
    }

    /// Keys and values of a large map behind a key, and whether there may be more.
    pub(crate) fn map_scan(state: u32, entry: u32, after: Block, limit: u32) -> (Block, Block, bool) {
        let read = collections::map_scan(position::chain(), state, entry, &to_contract(after), limit);
        (received(read.keys), received(read.values), read.more)
    }

    /// Items of a large list.
    pub(crate) fn list_length(state: u32, entry: u32) -> u64 {
        let lengths = collections::list_length(position::chain(), state, &[entry]);
        lengths.first().copied().unwrap_or(0)
    }

    /// Items of a large list from an index on.
    pub(crate) fn list_read(state: u32, entry: u32, start: u64, limit: u32) -> Block {
        received(collections::list_read(position::chain(), state, entry, start, limit))
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::cell::RefCell;

    use super::{Level, MetricKind};
    use crate::bindings::types;
    use crate::block::Block;
    use crate::testing::called;

    /// What the calls left behind on this thread.
    #[derive(Default)]
    pub(crate) struct Recorded {
        /// Blocks staged by `emit-block`, with their port.
        pub(crate) blocks: Vec<(u32, types::Block)>,
        /// Metrics in the order of registration: operator, name, kind.
        pub(crate) metrics: Vec<(u32, String, MetricKind)>,
        /// What happened to each metric: counts are added up, gauges replaced, histogram values appended.
        pub(crate) values: Vec<Vec<f64>>,
        /// Log lines.
        pub(crate) lines: Vec<(Level, String)>,
        /// Positions reported in careful mode.
        pub(crate) positions: Vec<(u32, u32)>,
        /// Processing time.
        pub(crate) now: i64,
        /// State of the random generator.
        random: u64,
    }

    thread_local! {
        static RECORDED: RefCell<Recorded> = RefCell::default();
    }

    /// Looks at, or takes, what was recorded.
    pub(crate) fn recorded<R>(look: impl FnOnce(&mut Recorded) -> R) -> R {
        RECORDED.with_borrow_mut(look)
    }

    pub(crate) fn log(level: Level, message: &str) {
        recorded(|recorded| recorded.lines.push((level, message.to_owned())));
    }

    pub(crate) fn panicked(operator: Option<u32>, entry: Option<u32>, message: &str) {
        let line = format!("panicked at operator {operator:?}, entry {entry:?}: {message}");
        recorded(|recorded| recorded.lines.push((Level::Error, line)));
    }

    pub(crate) fn position(operator: u32, entry: u32) {
        recorded(|recorded| recorded.positions.push((operator, entry)));
    }

    pub(crate) fn register_metric(operator: u32, name: &str, kind: MetricKind) -> u32 {
        recorded(|recorded| {
            let known = |metric: &(u32, String, MetricKind)| metric.0 == operator && metric.1 == name;
            if let Some(number) = recorded.metrics.iter().position(known) {
                return number as u32;
            }
            recorded.metrics.push((operator, name.to_owned(), kind));
            recorded.values.push(Vec::new());
            recorded.metrics.len() as u32 - 1
        })
    }

    pub(crate) fn add_counters(metrics: &[u32], deltas: &[u64]) {
        recorded(|recorded| {
            for (&metric, &delta) in metrics.iter().zip(deltas) {
                let values = &mut recorded.values[metric as usize];
                *values = vec![values.first().unwrap_or(&0.0) + delta as f64];
            }
        });
    }

    pub(crate) fn set_gauges(metrics: &[u32], values: &[f64]) {
        recorded(|recorded| {
            for (&metric, &value) in metrics.iter().zip(values) {
                recorded.values[metric as usize] = vec![value];
            }
        });
    }

    pub(crate) fn record_values(metric: u32, values: &[f64]) {
        recorded(|recorded| recorded.values[metric as usize].extend_from_slice(values));
    }

    pub(crate) fn emit_block(port: u32, block: types::Block) {
        recorded(|recorded| recorded.blocks.push((port, block)));
    }

    pub(crate) fn now() -> i64 {
        recorded(|recorded| recorded.now)
    }

    /// Splitmix64 from a fixed seed: tests are repeatable.
    pub(crate) fn random(length: u32) -> Vec<u8> {
        recorded(|recorded| {
            let mut bytes = Vec::new();
            while bytes.len() < length as usize {
                recorded.random = recorded.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut x = recorded.random;
                x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                bytes.extend((x ^ (x >> 31)).to_le_bytes());
            }
            bytes.truncate(length as usize);
            bytes
        })
    }

    pub(crate) fn map_get(state: u32, entries: &[u32], keys: Block) -> (Vec<u8>, Block) {
        called(state, |collection| collection.map_get(entries, &keys))
    }

    pub(crate) fn map_scan(state: u32, entry: u32, after: Block, limit: u32) -> (Block, Block, bool) {
        called(state, |collection| collection.map_scan(entry, &after, limit))
    }

    pub(crate) fn list_length(state: u32, entry: u32) -> u64 {
        called(state, |collection| collection.list_length(entry))
    }

    pub(crate) fn list_read(state: u32, entry: u32, start: u64, limit: u32) -> Block {
        called(state, |collection| collection.list_read(entry, start, limit))
    }
}
