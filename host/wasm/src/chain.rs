//! One chain of an instance: blocks in, blocks and effects out.
//!
//! A [`GuestChain`] encodes each call's block, makes the call, checks and decodes what comes back and
//! gathers it in a [`CallOutput`], which the task loop takes after each operator step. It implements the
//! traits by which the host-side operators see user code.

pub(crate) mod entries;
mod info;

use std::cell::RefCell;
use std::rc::Rc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::Fields;
use millrace_core::block::{Block, Millis, WATERMARK_MIN};
use millrace_core::function::{
    CallFault, Effects, KeyedFunction, Slot, StateFunction, TimerKind, TimerOperation, WindowFunction,
};
use millrace_core::graph::Graph;
use millrace_core::{Error, Result};

use self::entries::Entries;
pub(crate) use self::info::{ChainInfo, HeadKind};
use crate::bindings::operators;
use crate::codec::{self, Wire};
use crate::collections::{self, Readable};
use crate::examine;
use crate::host_state::LogLevel;
use crate::instance::{CallFailure, Instance, OpenConfig};
use crate::runtime::Pipeline;
use crate::tried::Mark;

/// The last millisecond of the year 9999: who sets a timer then asks for the end of the input.
const END_OF_CALENDARS: Millis = 253_402_300_799_999;

/// A row that a function refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// Index of the operator in the graph.
    pub operator: u32,
    /// The row; of a timer or a window its key and times; `None`: there is neither.
    pub row: Option<RecordBatch>,
    /// What the function said.
    pub cause: String,
}

/// What calls have put out since the last take.
#[derive(Debug, Default)]
pub struct CallOutput {
    /// Blocks by port, in order.
    pub blocks: Vec<(u32, Block)>,
    /// Rows put out by each operator of the chain.
    pub emitted: Vec<u64>,
    /// Refused rows.
    pub rejections: Vec<Rejection>,
    /// Change of live state in bytes.
    pub live_bytes: i64,
}

/// The action by which a broadcast row asks for every key.
const APPLY: u8 = 4;

/// One chain of an instance.
pub struct GuestChain {
    pub(crate) instance: Rc<RefCell<Instance>>,
    pub(crate) pipeline: Pipeline,
    parameters: Rc<[(String, String)]>,
    pub(crate) info: ChainInfo,
    config: OpenConfig,
    pub(crate) moment: operators::Moment,
    /// Input of the rows at hand.
    input: u32,
    pub(crate) scratch: Wire,
    pub(crate) output: CallOutput,
    pub(crate) mark: Mark,
    pub(crate) fault: Option<CallFault>,
    /// What keyed calls may read.
    pub(crate) readable: Option<Readable>,
    /// The user was told of timers that cannot be due.
    warned: bool,
}

impl GuestChain {
    /// Opens a chain of an instance that has built `graph`.
    pub fn open(
        pipeline: Pipeline,
        parameters: Rc<[(String, String)]>,
        instance: Rc<RefCell<Instance>>,
        graph: &Graph,
        chain: u32,
        config: OpenConfig,
    ) -> Result<Self> {
        let info = ChainInfo::new(graph, chain, config);
        instance.borrow_mut().state().place = Some(info.place.clone());
        instance.borrow_mut().open(chain, config).map_err(|failure| {
            let name = info.operator_name(failure.operator);
            failure.into_error().context(name)
        })?;
        Ok(GuestChain {
            instance,
            pipeline,
            parameters,
            info,
            config,
            moment: operators::Moment {
                watermark: WATERMARK_MIN,
                now: 0,
            },
            input: 0,
            scratch: Wire {
                rows: 0,
                data: Vec::new(),
                ends: Vec::new(),
            },
            output: CallOutput::default(),
            mark: Mark::default(),
            fault: None,
            readable: None,
            warned: false,
        })
    }

    /// Sets what time it is for the following calls.
    pub fn set_moment(&mut self, watermark: Millis, now: Millis) {
        self.moment = operators::Moment { watermark, now };
    }

    /// Rows that are added to accumulators are of this input from now on.
    pub fn set_input(&mut self, input: u32) {
        self.input = input;
    }

    /// Takes what the calls since the last take have put out.
    pub fn take_output(&mut self) -> CallOutput {
        std::mem::take(&mut self.output)
    }

    /// Linear memory of the instance, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.instance.borrow().memory_bytes()
    }

    /// Runs a block through a stateless chain.
    pub fn process(&mut self, input: u32, rows: &Block) -> Result<()> {
        self.input = input;
        self.encode(rows);
        let (chain, moment) = (self.info.index, self.moment);
        let wire = self.take_scratch();
        let result = self.call(|guest, store| guest.call_process(store, chain, input, moment, &wire));
        self.scratch = wire;
        self.finish(result, Some(rows), rows.row_count()).map(drop)
    }

    /// Values of a state from those of an earlier version, in the schema of its migration of this number.
    pub fn migrate_state(&mut self, state: u32, migration: u32, old: &ArrayRef) -> Result<ArrayRef> {
        let rows = old.len();
        let chain = self.info.index;
        let fields = Fields::from(vec![self.info.migrations[state as usize][migration as usize].clone()]);
        codec::encode_columns(std::slice::from_ref(old), &fields, rows, None, &mut self.scratch);
        let wire = &self.scratch;
        let result = self.instance.borrow_mut().call(self.moment.now, |guest, store| {
            guest.call_migrate_state(store, chain, state, migration, wire)
        });
        let wire = result.map_err(|failure| self.error(failure, None))?;
        self.state_values(state, wire, rows)
    }

    /// Ends the chain.
    pub fn close(&mut self) -> Result<()> {
        let (chain, moment) = (self.info.index, self.moment);
        let result = self.call(|guest, store| guest.call_close(store, chain, moment));
        let closed = self.finish(result, None, 0).map(drop);
        // No entry is to blame for that.
        self.fault = None;
        closed
    }

    /// Ends a chain whose rows have no key, which may touch its states as if it had taken one more.
    pub fn close_unkeyed(&mut self) -> Result<Effects> {
        let (chain, moment) = (self.info.index, self.moment);
        let result = self.call_reading(|guest, store| guest.call_close(store, chain, moment));
        let closed = self.finish(result, None, 1);
        // No entry is to blame for that.
        self.fault = None;
        closed
    }

    /// The encoded block, to be put back after the call so that its memory is reused.
    pub(crate) fn take_scratch(&mut self) -> Wire {
        std::mem::replace(
            &mut self.scratch,
            Wire {
                rows: 0,
                data: Vec::new(),
                ends: Vec::new(),
            },
        )
    }

    pub(crate) fn encode(&mut self, rows: &Block) {
        codec::encode(rows, self.config.time_in, &mut self.scratch);
    }

    fn encode_keys(&mut self, keys: &[ArrayRef], rows: usize) {
        codec::encode_columns(keys, &self.info.key_fields, rows, None, &mut self.scratch);
    }

    pub(crate) fn call<T>(
        &mut self,
        call: impl FnOnce(
            &operators::Guest,
            &mut wasmtime::Store<crate::host_state::HostState>,
        ) -> wasmtime::Result<Result<T, operators::CallError>>,
    ) -> Result<T, CallFailure> {
        let mut instance = self.instance.borrow_mut();
        instance.state().place = Some(self.info.place.clone());
        instance.call(self.moment.now, call)
    }

    /// Applies a call's result: everything it put out into `output`, and what the operator needs back.
    fn finish(
        &mut self,
        result: Result<operators::CallResult, CallFailure>,
        rows: Option<&Block>,
        entries: usize,
    ) -> Result<Effects> {
        let result = result.map_err(|failure| self.error(failure, rows))?;
        self.finish_ok(result, rows.map_or(Entries::None, Entries::Rows), entries)
    }

    /// Applies the result of a call that returned.
    pub(crate) fn finish_ok(
        &mut self,
        mut result: operators::CallResult,
        of: Entries<'_>,
        entries: usize,
    ) -> Result<Effects> {
        let mut effects = self.absorb(&mut result, of, entries)?;
        while result.more {
            let (chain, moment) = (self.info.index, self.moment);
            let now = moment.now;
            let next = self.reading(|chain_of| {
                let mut instance = chain_of.instance.borrow_mut();
                instance.resume(now, |guest, store| guest.call_resume(store, chain, moment))
            });
            result = next.map_err(|failure| self.error(failure, of.rows()))?;
            let more = self.absorb(&mut result, of, entries)?;
            effects.timers.extend(more.timers);
            effects.applies |= more.applies;
            effects.collections.extend(more.collections);
            if !more.touched.is_empty() {
                effects.touched = more.touched;
            }
        }
        Ok(effects)
    }

    fn absorb(&mut self, result: &mut operators::CallResult, of: Entries<'_>, entries: usize) -> Result<Effects> {
        let staged = std::mem::take(&mut self.instance.borrow_mut().state().staged);
        for (port, wire) in staged {
            self.absorb_block(port, wire)?;
        }
        for output in std::mem::take(&mut result.outputs) {
            self.absorb_block(output.port, output.block)?;
        }
        if let Some(problem) = self.info.wrong_counts(result) {
            return Err(self.malformed(&problem));
        }
        self.output.emitted.resize(self.info.operators.len(), 0);
        for (total, emitted) in self.output.emitted.iter_mut().zip(&result.emitted) {
            *total = total.saturating_add(*emitted);
        }
        for change in &result.live_bytes {
            self.output.live_bytes = self.output.live_bytes.saturating_add(*change);
        }
        self.absorb_rejections(&result.rejections, of, entries)?;
        let applies = self.info.applies && result.timers.actions.contains(&APPLY);
        let timers = self.timer_operations(&result.timers, entries)?;
        let touched = std::mem::take(&mut result.touched);
        if !touched.is_empty() && touched.len() != self.info.resident.len() * entries {
            return Err(self.malformed(&format!("{} state flags for {entries} entries", touched.len())));
        }
        let writes = std::mem::take(&mut result.collections);
        let bytes_max = self.pipeline.runtime.limits().block_bytes;
        let collections = collections::writes(&self.info.large, writes, entries, bytes_max)
            .map_err(|problem| self.malformed(&problem))?;
        Ok(Effects {
            timers,
            touched,
            collections,
            quarantined: Vec::new(),
            applies,
        })
    }

    fn absorb_block(&mut self, port: u32, wire: Wire) -> Result<()> {
        let Some(info) = self.info.ports.get(port as usize) else {
            return Err(self.malformed(&format!("a block for port {port}, which the chain does not have")));
        };
        let bytes_max = self.pipeline.runtime.limits().block_bytes;
        if wire.data.len() > bytes_max {
            let (bytes, limit) = (wire.data.len().div_ceil(1 << 20), bytes_max >> 20);
            let message = format!(
                "put out a block of {bytes} MiB with {} rows; the limit is {limit} MiB",
                wire.rows
            );
            return Err(Error::pipeline("PL0006", message).context(self.info.operator_name(None)));
        }
        let block = codec::decode(wire, &info.schema, info.time, info.key.as_ref(), bytes_max)
            .map_err(|malformed| self.malformed(&format!("port {port}: {malformed}")))?;
        if block.row_count() > 0 {
            self.output.blocks.push((port, block));
        }
        Ok(())
    }

    fn absorb_rejections(&mut self, rejections: &operators::Rejections, of: Entries<'_>, entries: usize) -> Result<()> {
        let count = rejections.entries.len();
        if rejections.operators.len() != count || rejections.cause_ends.len() != count {
            return Err(self.malformed("rejections of unequal length"));
        }
        let mut start = 0;
        for index in 0..count {
            let end = rejections.cause_ends[index] as usize;
            let Some(cause) = rejections.causes.get(start..end) else {
                return Err(self.malformed("rejections whose causes end out of range"));
            };
            start = end;
            let (entry, operator) = (rejections.entries[index], rejections.operators[index]);
            if entry as usize >= entries || !self.info.operators.iter().any(|(known, _)| *known == operator) {
                return Err(self.malformed(&format!(
                    "operator {operator} rejected entry {entry} of {entries}, which is not there"
                )));
            }
            let row = of.row(&self.info.key_fields, entry as usize);
            self.output.rejections.push(Rejection {
                operator,
                row,
                cause: cause.to_owned(),
            });
        }
        Ok(())
    }

    fn timer_operations(&mut self, timers: &operators::TimerOperations, entries: usize) -> Result<Vec<TimerOperation>> {
        let count = timers.entries.len();
        if timers.times.len() != count || timers.actions.len() != count {
            return Err(self.malformed("timers of unequal length"));
        }
        if count > 0 && self.info.head != HeadKind::Keyed {
            return Err(self.malformed("timers from a chain that is not keyed, or is a window"));
        }
        let mut operations = Vec::with_capacity(count);
        for ((&entry, &time), &action) in timers.entries.iter().zip(&timers.times).zip(&timers.actions) {
            if action == APPLY && self.info.applies && (entry as usize) < entries {
                continue;
            }
            if entry as usize >= entries || action > 3 {
                return Err(self.malformed(&format!("timer action {action} for entry {entry} of {entries}")));
            }
            let kind = if action < 2 {
                TimerKind::EventTime
            } else {
                TimerKind::ProcessingTime
            };
            operations.push(TimerOperation {
                entry,
                time,
                kind,
                set: action % 2 == 0,
            });
        }
        let by_event_time =
            |timer: &TimerOperation| timer.set && timer.kind == TimerKind::EventTime && timer.time < END_OF_CALENDARS;
        if !self.config.time_in && !self.warned && operations.iter().any(by_event_time) {
            self.warned = true;
            let line = "it sets event-time timers, but its input has no watermarks: they fire at the end of the input";
            self.instance.borrow_mut().state().tell(LogLevel::Warn, line);
        }
        Ok(operations)
    }

    /// A column of a state's values that the guest sent, one for each of so many.
    fn state_values(&self, state: u32, wire: Wire, rows: usize) -> Result<ArrayRef> {
        let bytes_max = self.pipeline.runtime.limits().block_bytes;
        let fields = self.info.states[state as usize].fields();
        if wire.data.len() > bytes_max {
            let (bytes, limit) = (wire.data.len().div_ceil(1 << 20), bytes_max >> 20);
            let message = format!(
                "handed over {bytes} MiB of state `{}`, of {rows} keys or subtasks; the limit is {limit} MiB",
                self.info.state_names[state as usize]
            );
            return Err(Error::pipeline("PL0006", message).context(self.info.operator_name(None)));
        }
        let columns = codec::decode_columns(wire, fields, bytes_max)
            .map_err(|malformed| self.malformed(&format!("state {state}: {malformed}")))?;
        match <[ArrayRef; 1]>::try_from(columns) {
            Ok([column]) if column.len() == rows => Ok(column),
            _ => Err(self.malformed(&format!("state {state} of {rows} slots came with other rows"))),
        }
    }

    pub(crate) fn malformed(&self, problem: &str) -> Error {
        Error::pipeline("PL0007", format!("the guest broke the contract: {problem}"))
            .context(self.info.operator_name(None))
    }

    /// Names operator and row of a failed call over rows or accumulators; where the guest could not say, a fresh instance finds out.
    pub(crate) fn error(&mut self, failure: CallFailure, rows: Option<&Block>) -> Error {
        let failure = match rows {
            Some(rows) if failure.trapped && failure.entry.is_none() && failure.host_error.is_none() => {
                examine::find_row(
                    &self.pipeline,
                    &self.parameters,
                    &self.info,
                    self.config,
                    self.moment,
                    (self.input, rows),
                    failure,
                )
            }
            _ => failure,
        };
        self.note_fault(&failure);
        let place = match (failure.entry, rows) {
            (Some(entry), Some(rows)) if (entry as usize) < rows.row_count() => {
                format!(", row {{{}}}", examine::render_row(&rows.rows, entry as usize))
            }
            _ => String::new(),
        };
        let name = self.info.operator_name(failure.operator);
        failure.into_error().context(format!("{name}{place}"))
    }

    /// The same for a call that no entry is to blame for.
    fn state_error(&self, failure: CallFailure) -> Error {
        let name = self.info.operator_name(failure.operator);
        failure.into_error().context(name)
    }

    /// The same for a call whose entries are keys: of timers or windows. `moment` says which of the key's.
    fn keyed_error(&mut self, failure: CallFailure, keys: &[ArrayRef], moment: impl Fn(usize) -> String) -> Error {
        self.note_fault(&failure);
        let name = self.info.operator_name(failure.operator);
        let entry = failure.entry.map(|entry| entry as usize);
        let place = match entry.filter(|&entry| keys.iter().all(|key| entry < key.len())) {
            Some(entry) => {
                let key = examine::render_values(&self.info.key_fields, keys, entry);
                format!(", key {{{key}}}, {}", moment(entry))
            }
            None => String::new(),
        };
        failure.into_error().context(format!("{name}{place}"))
    }
}

impl StateFunction for GuestChain {
    fn export_state(&mut self, state: u32, slots: &[Slot]) -> Result<ArrayRef> {
        let (chain, state) = (self.info.index, self.info.resident[state as usize]);
        let result = self.instance.borrow_mut().call(self.moment.now, |guest, store| {
            guest.call_export_state(store, chain, state, slots)
        });
        let wire = result.map_err(|failure| self.state_error(failure))?;
        self.state_values(state, wire, slots.len())
    }

    fn import_state(&mut self, state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        let (chain, state) = (self.info.index, self.info.resident[state as usize]);
        let fields = self.info.states[state as usize].fields().clone();
        let values = std::slice::from_ref(values);
        codec::encode_columns(values, &fields, slots.len(), None, &mut self.scratch);
        let wire = &self.scratch;
        let result = self.instance.borrow_mut().call(self.moment.now, |guest, store| {
            guest.call_import_state(store, chain, state, slots, wire)
        });
        result.map_err(|failure| self.state_error(failure))
    }

    fn drop_state(&mut self, slots: &[Slot]) -> Result<()> {
        let chain = self.info.index;
        let result = self.call(|guest, store| guest.call_drop_state(store, chain, slots));
        result.map_err(|failure| self.state_error(failure))
    }
}

impl KeyedFunction for GuestChain {
    fn process(&mut self, input: u32, slots: &[Slot], rows: &Block) -> Result<Effects> {
        self.input = input;
        self.encode(rows);
        let (chain, moment) = (self.info.index, self.moment);
        let wire = self.take_scratch();
        let result =
            self.call_reading(|guest, store| guest.call_process_keyed(store, chain, input, moment, slots, &wire));
        self.scratch = wire;
        self.finish(result, Some(rows), rows.row_count())
    }

    fn timers(&mut self, kind: TimerKind, slots: &[Slot], times: &[Millis], keys: &[ArrayRef]) -> Result<Effects> {
        self.encode_keys(keys, slots.len());
        let (chain, moment) = (self.info.index, self.moment);
        let kind = match kind {
            TimerKind::EventTime => operators::TimerKind::EventTime,
            TimerKind::ProcessingTime => operators::TimerKind::ProcessingTime,
        };
        let wire = self.take_scratch();
        let result =
            self.call_reading(|guest, store| guest.call_timers(store, chain, moment, kind, slots, times, &wire));
        self.scratch = wire;
        let result = result.map_err(|failure| {
            self.keyed_error(failure, keys, |entry| {
                format!("timer {}", examine::render_time(times[entry]))
            })
        });
        let of = Entries::Keys(keys, &[("timer", times)]);
        self.finish_ok(result?, of, slots.len())
    }

    fn apply(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<Effects> {
        self.encode_keys(keys, slots.len());
        let (chain, moment) = (self.info.index, self.moment);
        let (kind, times) = (operators::TimerKind::Applied, vec![moment.now; slots.len()]);
        let wire = self.take_scratch();
        let result =
            self.call_reading(|guest, store| guest.call_timers(store, chain, moment, kind, slots, &times, &wire));
        self.scratch = wire;
        let result = result.map_err(|failure| self.keyed_error(failure, keys, |_| "applied to every key".to_owned()));
        self.finish_ok(result?, Entries::Keys(keys, &[]), slots.len())
    }
}

impl WindowFunction for GuestChain {
    fn accumulate(&mut self, slots: &[Slot], rows: &Block) -> Result<()> {
        self.encode(rows);
        let (chain, moment, input) = (self.info.index, self.moment, self.input);
        let wire = self.take_scratch();
        let result =
            self.call(|guest, store| guest.call_accumulate(store, chain, input, moment, slots, &wire, &[], &[]));
        self.scratch = wire;
        self.finish(result, Some(rows), rows.row_count()).map(drop)
    }

    fn merge(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<()> {
        let chain = self.info.index;
        let result = self.call(|guest, store| guest.call_merge(store, chain, targets, sources));
        result.map_err(|failure| self.error(failure, None))
    }

    fn emit(
        &mut self,
        slots: &[Slot],
        starts: &[Millis],
        ends: &[Millis],
        keys: &[ArrayRef],
        then_drop: bool,
    ) -> Result<()> {
        self.encode_keys(keys, slots.len());
        let (chain, moment) = (self.info.index, self.moment);
        let wire = self.take_scratch();
        let result =
            self.call(|guest, store| guest.call_emit(store, chain, moment, slots, starts, ends, &wire, then_drop));
        self.scratch = wire;
        let result = result.map_err(|failure| {
            self.keyed_error(failure, keys, |entry| {
                let (start, end) = (examine::render_time(starts[entry]), examine::render_time(ends[entry]));
                format!("window {start} to {end}")
            })
        });
        let of = Entries::Keys(keys, &[("window_start", starts), ("window_end", ends)]);
        self.finish_ok(result?, of, slots.len()).map(drop)
    }
}
