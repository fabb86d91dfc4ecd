//! The chain task: a chain of the guest behind the host-side operator that its head needs.
//!
//! The operator decides slots, windows and timers; the guest runs the functions; here their outputs,
//! rejections and late rows are sent on. A slow function gets fewer rows per call, so that a call takes
//! about [`CALL_TARGET`].

mod function;
mod look_up;
mod restoring;
mod snapshot;

use std::time::Duration;

use arrow_schema::FieldRef;
use millrace_core::block::{Block, Millis, WATERMARK_MIN};
use millrace_core::checkpoint::{CheckpointId, Trap};
use millrace_core::collections::CollectionSchema;
use millrace_core::function::TriedFunction;
use millrace_core::graph::{Chain, Head, StateDecl, StateKind, TimeToLive};
use millrace_core::{Error, Result};
use millrace_operators::PatternOperator;
use millrace_operators::keyed::KeyedOperator;
use millrace_operators::window::WindowOperator;
use millrace_wasm::GuestChain;

use self::function::{handle_keyed, with_function};
use self::restoring::Restoring;
use super::careful::{CarefulChain, join_blocks};
use super::outputs::Outputs;
use super::rejects::Rejects;
use super::shared::CarefulEvent;
use super::wiring::{KeySource, key_columns};
use crate::backend::{Backend, Entries, Tier, Tiered};
use crate::env::Clock;
use crate::metrics::SubtaskMetrics;

/// How long a call into the guest should take at most.
const CALL_TARGET: Duration = Duration::from_millis(1);

/// The same where state may have to be fetched from a lower tier, which takes a multiple of the guest's time: many keys at
/// once cost RocksDB less.
const FETCHING_CALL_TARGET: Duration = Duration::from_millis(10);

/// Cost of a row in careful mode before the first was measured, ns: after a restart the first rows should be through soon.
const CAREFUL_ROW_NS: u64 = 10_000;

#[expect(clippy::large_enum_variant, reason = "one per subtask, in a box")]
enum HeadOperator {
    Stateless,
    Keyed {
        operator: KeyedOperator,
        tier: Option<Tier>,
        /// If what is keyed is a pattern.
        pattern: Option<Box<PatternOperator>>,
    },
    Window {
        operator: WindowOperator,
        tier: Option<Tier>,
        late_ports: Vec<Option<u32>>,
    },
}

impl HeadOperator {
    /// The operator whose state may be in a lower tier, and that.
    fn tiered(&mut self) -> Option<(&mut dyn Tiered, &mut Option<Tier>)> {
        match self {
            HeadOperator::Stateless => None,
            // What is a subtask's is whole in the guest.
            HeadOperator::Keyed { operator, .. } if operator.is_unkeyed() => None,
            HeadOperator::Keyed { operator, tier, .. } => Some((operator, tier)),
            HeadOperator::Window { operator, tier, .. } => Some((operator, tier)),
        }
    }

    fn has_lower_tier(&self) -> bool {
        match self {
            HeadOperator::Stateless => false,
            HeadOperator::Keyed { operator, .. } => operator.has_lower_tier(),
            HeadOperator::Window { operator, .. } => operator.has_lower_tier(),
        }
    }
}

/// One subtask of a chain.
pub(crate) struct ChainTask {
    guest: GuestChain,
    /// Its index in the graph.
    chain: u32,
    subtask: SubtaskOf,
    /// Broadcast rows may ask for every key.
    applies: bool,
    /// Rows taken in this attempt.
    rows: u64,
    /// In careful mode.
    careful: Option<Box<CarefulChain>>,
    head: HeadOperator,
    watermark: Millis,
    late: Vec<Block>,
    /// Measured cost of a row, ns, averaged over the last calls.
    row_ns: u64,
    tables: Tables,
    /// If state is still coming.
    restoring: Option<Box<Restoring>>,
}

/// Which subtask of how many it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubtaskOf {
    pub(crate) number: u32,
    pub(crate) parallelism: u32,
}

/// What snapshots of a chain are made of.
struct Tables {
    /// Fields of the states that are kept by slot, or of the accumulator.
    states: Vec<FieldRef>,
    /// How long each of these lives.
    ttls: Vec<Option<TimeToLive>>,
    /// Large states.
    collections: Vec<CollectionSchema>,
    max_parallelism: u32,
    tracked: bool,
}

impl Tables {
    fn new(chain: &Chain, max_parallelism: u32) -> Self {
        let states = match &chain.head {
            Head::Stateless => &[],
            Head::Keyed { states, .. } => states.as_slice(),
            Head::Window { accumulator, .. } => std::slice::from_ref(accumulator),
        };
        let resident = || states.iter().filter(|state| !state.kind.is_large());
        Tables {
            states: resident().map(StateDecl::field).collect(),
            ttls: resident().map(|state| state.ttl).collect(),
            collections: states.iter().filter_map(StateDecl::collection).collect(),
            max_parallelism,
            tracked: false,
        }
    }
}

/// What a chain step needs from its surroundings.
pub(crate) struct ChainContext<'a> {
    pub(crate) clock: Clock,
    pub(crate) rejects: &'a Rejects,
    pub(crate) metrics: &'a SubtaskMetrics,
    pub(crate) outputs: &'a mut Outputs,
}

impl<'a> ChainContext<'a> {
    pub(crate) fn new(
        clock: Clock,
        rejects: &'a Rejects,
        metrics: &'a SubtaskMetrics,
        outputs: &'a mut Outputs,
    ) -> Self {
        ChainContext {
            clock,
            rejects,
            metrics,
            outputs,
        }
    }
}

impl ChainTask {
    /// `careful`: the chain is to run in careful mode.
    pub(crate) fn new(
        guest: GuestChain,
        index: u32,
        chain: &Chain,
        subtask: SubtaskOf,
        max_parallelism: u32,
        careful: Option<CarefulChain>,
    ) -> Result<Self> {
        let tables = Tables::new(chain, max_parallelism);
        let head = match &chain.head {
            Head::Stateless => HeadOperator::Stateless,
            Head::Keyed {
                key_schema,
                always_writes,
                pattern,
                states,
                unkeyed,
                applies,
                ..
            } => {
                let pattern = pattern
                    .as_ref()
                    .map(|pattern| PatternOperator::new(pattern, &chain.inputs[0]));
                let mut operator = KeyedOperator::new(key_schema.clone(), tables.states.len(), *always_writes)?;
                operator.set_lifetimes(&tables.states, &tables.ttls);
                if *applies {
                    operator.set_applies(max_parallelism);
                }
                if *unkeyed {
                    let resident = states.iter().filter(|state| !state.kind.is_large());
                    let unions = resident.map(|state| state.kind == StateKind::UnionList);
                    operator.set_unkeyed(subtask.number, unions.collect());
                }
                HeadOperator::Keyed {
                    operator,
                    tier: None,
                    pattern: pattern.transpose()?.map(Box::new),
                }
            }
            Head::Window { key_schema, window, .. } => HeadOperator::Window {
                operator: WindowOperator::new(key_schema.clone(), window)?,
                tier: None,
                late_ports: window.late_ports.clone(),
            },
        };
        Ok(ChainTask {
            guest,
            chain: index,
            subtask,
            applies: matches!(&chain.head, Head::Keyed { applies: true, .. }),
            rows: 0,
            row_ns: match &careful {
                Some(careful) if careful.calls.is_by_entry() => CAREFUL_ROW_NS,
                _ => 0,
            },
            careful: careful.map(Box::new),
            head,
            watermark: WATERMARK_MIN,
            late: Vec::new(),
            tables,
            restoring: None,
        })
    }

    pub(crate) fn handle_block(
        &mut self,
        input: u32,
        keys: &KeySource,
        block: &Block,
        context: &mut ChainContext<'_>,
    ) -> Result<()> {
        match self.restoring {
            // Broadcast state is there before the first row.
            Some(_) if *keys != KeySource::Broadcast => self.handle_while_restoring(input, keys, block, context),
            Some(_) | None => self.handle_rows(input, keys, block, context),
        }
    }

    fn handle_rows(
        &mut self,
        input: u32,
        keys: &KeySource,
        block: &Block,
        context: &mut ChainContext<'_>,
    ) -> Result<()> {
        let rows = block.row_count();
        let per_call = self.rows_per_call();
        if rows <= per_call {
            return self.handle_piece(input, keys, block, context);
        }
        let mut start = 0;
        while start < rows {
            let count = self.rows_per_call().min(rows - start);
            self.handle_piece(input, keys, &block.slice(start, count), context)?;
            start += count;
        }
        Ok(())
    }

    /// Whether rows of such an input have to come one by one: what one of them asks of every key comes before the next.
    pub(crate) fn takes_one_by_one(&self, keys: &KeySource) -> bool {
        matches!(keys, KeySource::Broadcast) && self.applies
    }

    /// Whether a broadcast row has asked for every key: call [`fire`](Self::fire) until all have had their turn.
    pub(crate) fn is_applying(&self) -> bool {
        matches!(&self.head, HeadOperator::Keyed { operator, .. } if operator.is_applying())
    }

    /// At least one row, and no limit before the first measurement.
    pub(crate) fn rows_per_call(&self) -> usize {
        let target = match self.head.has_lower_tier() {
            true => FETCHING_CALL_TARGET,
            false => CALL_TARGET,
        };
        let target = target.as_nanos() as u64;
        usize::try_from(target.checked_div(self.row_ns).unwrap_or(u64::MAX))
            .unwrap_or(usize::MAX)
            .max(1)
    }

    fn handle_piece(
        &mut self,
        input: u32,
        keys: &KeySource,
        block: &Block,
        context: &mut ChainContext<'_>,
    ) -> Result<()> {
        let before = context.clock.elapsed();
        self.rows += block.row_count() as u64;
        self.set_moment(context.clock.now_millis());
        let (guest, late) = (&mut self.guest, &mut self.late);
        match (&mut self.head, &mut self.careful) {
            (HeadOperator::Stateless, Some(careful)) if careful.calls.is_by_entry() => {
                let mut calls = careful.calls.calls(guest);
                calls.each_row(block, |guest, row| guest.process(input, row))?;
            }
            (HeadOperator::Stateless, _) => guest.process(input, block)?,
            (HeadOperator::Keyed { operator, .. }, careful) if operator.is_unkeyed() => {
                let broadcast = *keys == KeySource::Broadcast;
                match careful {
                    None => operator.handle_unkeyed(input, block, broadcast, guest)?,
                    Some(careful) => {
                        let calls = &mut careful.calls.calls(guest);
                        operator.handle_unkeyed(input, block, broadcast, calls)?;
                    }
                }
            }
            (HeadOperator::Keyed { operator, .. }, careful) if *keys == KeySource::Broadcast => match careful {
                None => operator.handle_broadcast(input, block, guest)?,
                Some(careful) => operator.handle_broadcast(input, block, &mut careful.calls.calls(guest))?,
            },
            (HeadOperator::Keyed { operator, pattern, .. }, careful) => match careful {
                None => handle_keyed(operator, pattern, guest, (input, keys), block)?,
                Some(careful) => {
                    let calls = &mut careful.calls.calls(guest);
                    handle_keyed(operator, pattern, calls, (input, keys), block)?;
                }
            },
            (HeadOperator::Window { operator, .. }, careful) => {
                let times = block.times.as_ref();
                let times = times.ok_or_else(|| Error::internal("rows reached a window without event time"))?;
                let keys = key_columns(keys, block)?;
                operator.set_input(input);
                guest.set_input(input);
                match careful {
                    None => operator.handle_block(&keys, times, block, guest, late)?,
                    Some(careful) => {
                        let calls = &mut careful.calls.calls(guest);
                        operator.handle_block_carefully(&keys, times, block, calls, late)?;
                    }
                }
            }
        }
        let state_bytes = self.guest.memory_bytes() + self.pattern_bytes();
        let restoring = self.is_restoring_slots();
        if let Some((operator, Some(tier))) = self.head.tiered()
            && !restoring
        {
            tier.keep_within_budget(operator, state_bytes)?;
        }
        let spent = context.clock.elapsed().saturating_sub(before).as_nanos() as u64 / block.row_count().max(1) as u64;
        self.row_ns = (self.row_ns * 7 + spent) / 8;
        self.flush(keys, context)?;
        self.put_out_late(input, context)
    }

    /// Late rows of an input, which the operator keeps only where there is a port for them.
    fn put_out_late(&mut self, input: u32, context: &mut ChainContext<'_>) -> Result<()> {
        let HeadOperator::Window { late_ports, .. } = &self.head else {
            return Ok(());
        };
        if let Some(Some(port)) = late_ports.get(input as usize) {
            for block in self.late.drain(..) {
                context.outputs.emit(*port, block)?;
            }
        }
        Ok(())
    }

    /// What time it is to the next call.
    fn set_moment(&mut self, now: Millis) {
        self.guest.set_moment(self.watermark, now);
        if let HeadOperator::Keyed { operator, pattern, .. } = &mut self.head {
            operator.set_now(now);
            if let Some(pattern) = pattern {
                pattern.set_moment(self.watermark, now);
            }
        }
    }

    /// Bytes that a pattern keeps beside the guest.
    fn pattern_bytes(&self) -> usize {
        match &self.head {
            HeadOperator::Keyed {
                pattern: Some(pattern), ..
            } => pattern.memory_bytes(),
            HeadOperator::Stateless | HeadOperator::Keyed { pattern: None, .. } | HeadOperator::Window { .. } => 0,
        }
    }

    /// The watermark advanced: call [`fire`](Self::fire) until nothing is due.
    pub(crate) fn handle_watermark(&mut self, watermark: Millis) {
        // After a restart upstream may take a while to be where it was.
        self.watermark = self.watermark.max(watermark);
        match &mut self.head {
            HeadOperator::Stateless => {}
            HeadOperator::Keyed { operator, .. } => operator.handle_watermark(watermark),
            HeadOperator::Window { operator, .. } => operator.handle_watermark(watermark),
        }
    }

    /// Processing time advanced: call [`fire`](Self::fire) until nothing is due.
    pub(crate) fn handle_time(&mut self, now: Millis) {
        if let HeadOperator::Keyed { operator, .. } = &mut self.head {
            operator.handle_time(now);
        }
    }

    /// Fires some of what is due; false: nothing is due any more.
    pub(crate) fn fire(&mut self, context: &mut ChainContext<'_>) -> Result<bool> {
        self.set_moment(context.clock.now_millis());
        let guest = &mut self.guest;
        let fired = match (&mut self.head, &mut self.careful) {
            (HeadOperator::Stateless, _) => false,
            (HeadOperator::Keyed { operator, pattern, .. }, None) => {
                with_function(pattern, guest, |function| operator.fire(function))?
            }
            (HeadOperator::Keyed { operator, pattern, .. }, Some(careful)) => {
                with_function(pattern, &mut careful.calls.calls(guest), |function| {
                    operator.fire(function)
                })?
            }
            (HeadOperator::Window { operator, .. }, None) => operator.fire(guest)?,
            (HeadOperator::Window { operator, .. }, Some(careful)) => operator.fire(&mut careful.calls.calls(guest))?,
        };
        self.flush(&KeySource::None, context)?;
        Ok(fired)
    }

    /// When the next processing-time timer is due.
    pub(crate) fn next_time(&mut self) -> Option<Millis> {
        match &mut self.head {
            HeadOperator::Keyed { operator, pattern, .. } => {
                let kept = pattern.as_ref().and_then(|pattern| pattern.next_processing_time());
                operator.next_processing_timer().into_iter().chain(kept).min()
            }
            HeadOperator::Stateless | HeadOperator::Window { .. } => None,
        }
    }

    /// Puts state where the job wants it. `name` tells this subtask's from all others'.
    pub(crate) fn open_backend(&mut self, backend: &Backend, name: &str) -> Result<()> {
        if let Some((operator, tier)) = self.head.tiered() {
            let entries = Entries {
                states: self.tables.states.clone(),
                max_parallelism: self.tables.max_parallelism,
            };
            *tier = Some(Tier::new(backend, name, operator, entries)?);
        }
        let Tables {
            collections,
            max_parallelism,
            ..
        } = &self.tables;
        if let HeadOperator::Keyed { operator, .. } = &mut self.head
            && !collections.is_empty()
        {
            let tiers = collections.iter().enumerate().map(|(number, schema)| {
                let lifetime = schema.ttl.map(|ttl| ttl.after_ms);
                let tier = backend.sorted_tier(&format!("{name}-large-{number}"), lifetime)?;
                Ok((schema.clone(), tier))
            });
            let collections = operator.set_collections(tiers.collect::<Result<_>>()?, *max_parallelism)?;
            if let Some(careful) = &mut self.careful {
                careful.calls.set_collections(collections.clone());
            }
            self.guest.set_collections(collections);
        }
        Ok(())
    }

    /// Whether the error of the last call was a trap that one of the call's entries may be to blame for.
    pub(crate) fn take_trap(&mut self, subtask: u32) -> Option<Trap> {
        let (chain, rows) = (self.chain, self.rows);
        let trap = Trap { chain, subtask, rows };
        self.guest.take_fault().map(|_| trap)
    }

    /// What happened in careful mode since the last time, behind the barrier of this checkpoint.
    pub(crate) fn take_careful_events(&mut self, after: Option<CheckpointId>) -> Vec<CarefulEvent> {
        let (chain, rows) = (self.chain, self.rows);
        let careful = self.careful.as_mut();
        careful
            .map(|careful| careful.take_events(chain, rows, after))
            .unwrap_or_default()
    }

    /// Whether careful mode can end now.
    pub(crate) fn can_end_careful(&self) -> bool {
        self.careful.as_ref().is_none_or(|careful| careful.calls.can_end())
    }

    /// Ends careful mode: the instance is sound, the copy of its state is no longer needed.
    pub(crate) fn end_careful(&mut self) {
        self.careful = None;
    }

    pub(crate) fn watermark(&self) -> Millis {
        self.watermark
    }

    /// All inputs have ended.
    pub(crate) fn handle_end(&mut self, context: &mut ChainContext<'_>) -> Result<()> {
        self.guest.set_moment(self.watermark, context.clock.now_millis());
        match (&mut self.head, &mut self.careful) {
            (HeadOperator::Keyed { operator, .. }, None) if operator.is_unkeyed() => {
                operator.handle_unkeyed_end(&mut self.guest, |guest, _| guest.close_unkeyed())?;
            }
            (HeadOperator::Keyed { operator, .. }, Some(careful)) if operator.is_unkeyed() => {
                let calls = &mut careful.calls.calls(&mut self.guest);
                operator.handle_unkeyed_end(calls, |calls, slots| calls.close(slots, |guest| guest.close_unkeyed()))?;
            }
            (HeadOperator::Stateless | HeadOperator::Keyed { .. } | HeadOperator::Window { .. }, _) => {
                self.guest.close()?;
            }
        }
        self.flush(&KeySource::None, context)
    }

    /// Sends on what the calls put out, in order.
    fn flush(&mut self, keys: &KeySource, context: &mut ChainContext<'_>) -> Result<()> {
        self.count_state(context.metrics);
        let mut output = self.guest.take_output();
        if let Some(careful) = &mut self.careful {
            careful.bury(keys, context.rejects, context.metrics)?;
            output.blocks = join_blocks(output.blocks)?;
        }
        for (counter, emitted) in context.metrics.emitted.iter().zip(&output.emitted) {
            counter.add(*emitted);
        }
        for (port, block) in output.blocks {
            context.outputs.emit(port, block)?;
        }
        context.metrics.rejected.add(output.rejections.len() as u64);
        for rejection in output.rejections {
            context.rejects.refuse(rejection)?;
        }
        Ok(())
    }

    fn count_state(&self, metrics: &SubtaskMetrics) {
        match &self.head {
            HeadOperator::Stateless => {}
            HeadOperator::Keyed { operator, pattern, .. } => {
                metrics.state_slots.set(operator.slot_count() as u64);
                metrics.state_resident.set(operator.resident_count() as u64);
                if let Some(pattern) = pattern {
                    let counters = pattern.counters();
                    metrics.late.set(counters.late_rows);
                    metrics.dropped.set(counters.dropped_rows);
                    metrics.dropped_matches.set(counters.dropped_partials);
                }
            }
            HeadOperator::Window { operator, .. } => {
                metrics.state_slots.set(operator.slot_count() as u64);
                metrics.state_resident.set(operator.resident_count() as u64);
                let counters = operator.counters();
                metrics.late.set(counters.late_rows);
                metrics.dropped.set(counters.dropped_rows + counters.outside_rows);
            }
        }
    }
}
