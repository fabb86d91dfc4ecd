//! Careful mode of a slot: how its instance is replaced, and what becomes of the entries that are set aside.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, Fields, Schema};
use arrow_select::concat::{concat, concat_batches};
use millrace_core::block::{Block, Millis};
use millrace_core::checkpoint::{CheckpointId, Trap};
use millrace_core::connector::Rejected;
use millrace_core::function::TimerKind;
use millrace_core::graph::{Chain, Head};
use millrace_core::plan::SlotIndex;
use millrace_core::{Error, Result};
use millrace_operators::careful::{Careful, Entry, Instances, Quarantined, Shadow, SharedShadow};
use millrace_wasm::{GuestChain, Instance, OpenConfig, render_time};
use serde_json::{Value, json};

use super::instance::instantiate;
use super::rejects::{Rejects, row_text};
use super::shared::CarefulEvent;
use super::slot::SlotJob;
use super::wiring::{KeySource, key_columns};
use crate::metrics::SubtaskMetrics;

/// What the chains of a slot share in careful mode.
pub(crate) struct CarefulSlot {
    job: Arc<SlotJob>,
    slot: SlotIndex,
    instance: Rc<RefCell<Instance>>,
    chains: RefCell<Vec<OpenChain>>,
}

/// What it takes to have a chain again in a fresh instance.
struct OpenChain {
    chain: u32,
    config: OpenConfig,
    shadow: SharedShadow,
}

impl CarefulSlot {
    pub(crate) fn new(job: Arc<SlotJob>, slot: SlotIndex, instance: Rc<RefCell<Instance>>) -> Self {
        CarefulSlot {
            job,
            slot,
            instance,
            chains: RefCell::new(Vec::new()),
        }
    }

    /// What a chain that was just opened needs. `trap`: what it is careful for, if it is one that trapped.
    pub(crate) fn add(self: &Rc<Self>, chain: u32, config: OpenConfig, trap: Option<&Trap>) -> CarefulChain {
        let declared = &self.job.graph.chains[chain as usize];
        let (states, always_writes) = match &declared.head {
            Head::Stateless | Head::Keyed { pattern: Some(_), .. } => (0, false),
            Head::Keyed {
                states,
                always_writes,
                pattern: None,
                ..
            } => (
                states.iter().filter(|state| !state.kind.is_large()).count(),
                *always_writes,
            ),
            Head::Window { .. } => (1, false),
        };
        let shadow = SharedShadow::new(RefCell::new(Shadow::new(states)));
        self.chains.borrow_mut().push(OpenChain {
            chain,
            config,
            shadow: shadow.clone(),
        });
        let calls = match trap {
            Some(_) => Careful::by_entry(self.clone(), shadow, always_writes),
            None => Careful::whole(self.clone(), shadow, always_writes),
        };
        CarefulChain {
            calls,
            declared: declared.clone(),
            told: Vec::new(),
            passes_at: trap.filter(|trap| trap.subtask == config.subtask).map(|trap| trap.rows),
        }
    }
}

impl Instances for CarefulSlot {
    fn replace(&self) -> Result<()> {
        let context = |error: Error| error.context("after a trap, a fresh instance");
        let mut fresh = instantiate(&self.job, self.slot).map_err(context)?;
        fresh.take_over(&self.instance.borrow());
        // The one that trapped goes before state fills the next one.
        *self.instance.borrow_mut() = fresh;
        let parameters: Rc<[(String, String)]> = self.job.parameters.clone().into();
        for open in self.chains.borrow().iter() {
            let (pipeline, instance) = (self.job.pipeline.clone(), self.instance.clone());
            let graph = &self.job.graph;
            let mut guest = GuestChain::open(pipeline, parameters.clone(), instance, graph, open.chain, open.config);
            let given = match &mut guest {
                Ok(guest) => open.shadow.borrow().give(guest),
                Err(error) => Err(error.clone()),
            };
            given.map_err(context)?;
        }
        Ok(())
    }
}

/// A chain of a careful slot.
pub(crate) struct CarefulChain {
    pub(crate) calls: Careful,
    declared: Chain,
    /// Causes of what was set aside and nobody was told of yet.
    told: Vec<String>,
    /// After so many rows the trap that this is about has been met, or will not be.
    passes_at: Option<u64>,
}

impl CarefulChain {
    /// Puts what was set aside into the dead letter. `keys`: where rows have their key.
    pub(crate) fn bury(&mut self, keys: &KeySource, rejects: &Rejects, metrics: &SubtaskMetrics) -> Result<()> {
        let bytes = self.calls.memory_bytes() as u64;
        metrics.shadow_bytes_max.set(metrics.shadow_bytes_max.get().max(bytes));
        for quarantined in self.calls.take_quarantined() {
            // Where it is not known which of the chain it was, the first one stands for it.
            let operator = quarantined.fault.operator.unwrap_or(self.declared.operators[0].0);
            let text = |row: &RecordBatch| rejects.row_text(operator, row);
            let rejected = dead_letter(&quarantined, &self.declared, keys, text)?;
            rejects.quarantine(operator, &rejected)?;
            metrics.quarantined.add(1);
            let place = [rejected.place.as_str(), rejected.raw.as_str()];
            let place = place.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
            self.told.push(format!("{}: {}", place.join(", "), rejected.cause));
        }
        Ok(())
    }

    /// What happened since the last time, now that so many rows were taken.
    pub(crate) fn take_events(&mut self, chain: u32, rows: u64, after: Option<CheckpointId>) -> Vec<CarefulEvent> {
        let quarantined = |cause| CarefulEvent::Quarantined { after, cause };
        let mut events = self.told.drain(..).map(quarantined).collect::<Vec<_>>();
        if self.passes_at.take_if(|passes_at| *passes_at <= rows).is_some() {
            events.push(CarefulEvent::Passed { chain, after });
        }
        events
    }
}

/// Joins the blocks of each port: calls of one row put out blocks of one row.
pub(crate) fn join_blocks(blocks: Vec<(u32, Block)>) -> Result<Vec<(u32, Block)>> {
    let mut ports = BTreeMap::<u32, Vec<Block>>::new();
    for (port, block) in blocks {
        ports.entry(port).or_default().push(block);
    }
    let joined = ports
        .into_iter()
        .map(|(port, blocks)| match <[Block; 1]>::try_from(blocks) {
            Ok([block]) => Ok((port, block)),
            Err(blocks) => join(&blocks).map(|block| (port, block)),
        });
    joined.collect()
}

fn join(blocks: &[Block]) -> Result<Block> {
    let broken = |error: ArrowError| Error::internal(format!("blocks of one port do not fit together: {error}"));
    let rows = concat_batches(blocks[0].rows.schema_ref(), blocks.iter().map(|block| &block.rows)).map_err(broken)?;
    let times = blocks.iter().map(|block| block.times.as_deref());
    let times = times.collect::<Option<Vec<_>>>().map(|times| times.concat().into());
    let keys = blocks.iter().map(|block| block.keys.as_deref());
    let keys = keys.collect::<Option<Vec<_>>>().map(|keys| {
        let column = |index: usize| keys.iter().map(|keys| keys[index].as_ref()).collect::<Vec<_>>();
        let columns = (0..keys[0].len()).map(|index| concat(&column(index)).map_err(broken));
        columns.collect::<Result<Arc<[_]>>>()
    });
    let keys = keys.transpose()?;
    Ok(Block { rows, times, keys })
}

/// What the dead letter says of an entry that was set aside.
fn dead_letter(
    quarantined: &Quarantined,
    chain: &Chain,
    keys: &KeySource,
    text: impl Fn(&RecordBatch) -> String,
) -> Result<Rejected> {
    let (place, raw) = match &quarantined.entry {
        Entry::Row(row) => {
            // Rows that a pattern had taken come without their key.
            let keyed = match keys {
                KeySource::Fields(_) => true,
                KeySource::Computed => row.keys.is_some(),
                KeySource::None | KeySource::Broadcast => false,
            };
            let place = match key_fields(chain).filter(|_| keyed) {
                Some(fields) => format!("key {}", object(fields, &key_columns(keys, row)?)?),
                None => String::new(),
            };
            (place, text(&row.rows))
        }
        Entry::Timer { kind, time, keys } => {
            let kind = match kind {
                TimerKind::EventTime => "event-time",
                TimerKind::ProcessingTime => "processing-time",
            };
            let key = object(key_fields(chain).unwrap_or(&Fields::empty()), keys)?;
            let place = format!("{kind} timer {}, key {key}", render_time(*time));
            let raw = json!({ "timer": kind, "time": time, "key": parsed(&key) });
            (place, raw.to_string())
        }
        Entry::Window { start, end, keys } => {
            let key = object(key_fields(chain).unwrap_or(&Fields::empty()), keys)?;
            let place = format!("window {} to {}, key {key}", render_time(*start), render_time(*end));
            let window: [Millis; 2] = [*start, *end];
            let raw = json!({ "window": window, "key": parsed(&key) });
            (place, raw.to_string())
        }
        Entry::Match { rows, time } => {
            let row = |row| parsed(&text(&rows.rows.slice(row, 1)));
            let rows = (0..rows.row_count()).map(row).collect::<Vec<_>>();
            let raw = json!({ "match": rows, "time": time });
            (format!("match at {}", render_time(*time)), raw.to_string())
        }
    };
    let cause = quarantined.fault.cause.clone();
    Ok(Rejected { place, cause, raw })
}

fn key_fields(chain: &Chain) -> Option<&Fields> {
    match &chain.head {
        Head::Stateless | Head::Keyed { unkeyed: true, .. } => None,
        Head::Keyed { key_schema, .. } | Head::Window { key_schema, .. } => Some(key_schema.fields()),
    }
}

/// One row of columns as a JSON object.
fn object(fields: &Fields, columns: &[ArrayRef]) -> Result<String> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let schema = Arc::new(Schema::new(fields.clone()));
    let row = RecordBatch::try_new_with_options(schema, columns.to_vec(), &options);
    let row = row.map_err(|error| Error::internal(format!("a key does not fit its schema: {error}")))?;
    Ok(row_text(&row))
}

fn parsed(object: &str) -> Value {
    serde_json::from_str(object).unwrap_or_else(|_| Value::from(object))
}
