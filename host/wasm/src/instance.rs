//! One sandboxed copy of a pipeline and the plain calls on it.
//!
//! Order: [`Instance::build`] once, then [`Instance::open`] per chain. After an error of kind trap the
//! instance is dead: every later call fails. Not shared between threads.

use std::time::Duration;

use millrace_core::graph::{Graph, Parameter};
use millrace_core::random::SplitMix64;
use millrace_core::{Error, Result};
use wasmtime::{PoolConcurrencyLimitError, Store};

use crate::bindings::{self, dataflow, operators};
use crate::convert;
use crate::host_state::{HostState, LogSink, UserMetric};
use crate::limits::{EPOCH_TICK, INSTANCES_MAX};
use crate::runtime::Pipeline;
use crate::trap;

/// How a chain is opened; see `open-config` in `wit/operators.wit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenConfig {
    /// Index of the subtask.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Restarts so far.
    pub attempt: u32,
    /// Input blocks carry event time.
    pub time_in: bool,
    /// Output blocks carry event time.
    pub time_out: bool,
    /// Report positions.
    pub careful: bool,
}

/// A failed call, before it is put into words that need the graph.
#[derive(Debug)]
pub(crate) struct CallFailure {
    pub(crate) operator: Option<u32>,
    pub(crate) entry: Option<u32>,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The instance can no longer be called.
    pub(crate) trapped: bool,
    /// An entry of the call may be to blame; otherwise the failure would be the same with other entries.
    pub(crate) by_entry: bool,
    /// What kept an import from being answered: then the call failed for that.
    pub(crate) host_error: Option<Box<Error>>,
}

impl CallFailure {
    pub(crate) fn into_error(self) -> Error {
        match self.host_error {
            Some(error) => *error,
            None => Error::pipeline(self.code, self.message),
        }
    }
}

impl CallFailure {
    /// The same before a row moves: a panic is about the pipeline, not about any row.
    fn into_build_error(self) -> Error {
        match self.code {
            "PL0001" => Error::user("GR0016", self.message),
            _ => self.into_error(),
        }
    }
}

/// Epoch ticks of a deadline, rounded up; one more because the current tick has begun.
fn ticks(deadline: Duration) -> u64 {
    let ticks = deadline.as_millis().div_ceil(EPOCH_TICK.as_millis());
    u64::try_from(ticks).unwrap_or(u64::MAX / 2).max(1) + 1
}

/// A sandboxed copy of a pipeline.
pub struct Instance {
    store: Store<HostState>,
    exports: bindings::Pipeline,
    deadline_ticks: u64,
}

impl Instance {
    pub(crate) fn new(pipeline: &Pipeline, seed: u64, log: LogSink) -> Result<Self> {
        let limits = pipeline.runtime.limits().clone();
        let deadline_ticks = ticks(limits.call_deadline);
        let mut store = Store::new(pipeline.runtime.engine(), HostState::new(limits, seed, log));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(store.data().limits.handed_bytes);
        store.set_epoch_deadline(deadline_ticks);
        let exports = pipeline.instance.instantiate(&mut store).map_err(|error| {
            if error.is::<PoolConcurrencyLimitError>() {
                return Error::user(
                    "GR0012",
                    format!("one process holds {INSTANCES_MAX} instances at most, one for each slot; choose a lower parallelism or fewer slot-sharing groups"),
                );
            }
            let failure = trap::failure(&error, store.data_mut());
            failure.into_error().context("the pipeline cannot be instantiated")
        })?;
        Ok(Instance {
            store,
            exports,
            deadline_ticks,
        })
    }

    /// Parameters that the pipeline declares.
    pub fn parameters(&mut self) -> Result<Vec<Parameter>> {
        self.begin(0);
        let result = self
            .exports
            .millrace_pipeline_dataflow()
            .call_parameters(&mut self.store);
        let declared = self
            .finish(result)
            .map_err(|failure| failure.into_build_error().context("declaring parameters"))?;
        Ok(convert::parameters(declared))
    }

    /// Builds the dataflow from checked parameters.
    pub fn build(&mut self, parameters: &[(String, String)]) -> Result<Graph> {
        self.begin(0);
        let input = dataflow::BuildInput {
            parameters: parameters.to_vec(),
        };
        let result = self
            .exports
            .millrace_pipeline_dataflow()
            .call_build(&mut self.store, &input);
        let built = self
            .finish(result)
            .map_err(|failure| failure.into_build_error().context("building the dataflow"))?;
        let graph = built.map_err(|message| Error::user("GR0002", message).context("building the dataflow"))?;
        convert::graph(graph)
    }

    /// Goes on with random numbers of this seed. Instances of one job are made with the job's seed, so that `build`
    /// meets the same numbers in all of them, and get one of their own before they run.
    pub fn reseed(&mut self, seed: u64) {
        self.store.data_mut().random = SplitMix64::new(seed);
    }

    /// Takes up what an instance leaves behind that this one replaces: its metrics and the sequence of its random
    /// numbers. The chains that had been open are opened in the same order.
    pub fn take_over(&mut self, gone: &Instance) {
        let (state, before) = (self.store.data_mut(), gone.store.data());
        state.random = before.random.clone();
        state.metrics.clone_from(&before.metrics);
    }

    /// Opens a chain.
    pub(crate) fn open(&mut self, chain: u32, config: OpenConfig) -> Result<(), CallFailure> {
        let config = operators::OpenConfig {
            subtask: config.subtask,
            parallelism: config.parallelism,
            max_parallelism: config.max_parallelism,
            attempt: config.attempt,
            time_in: config.time_in,
            time_out: config.time_out,
            careful: config.careful,
        };
        self.call(0, |operators, store| operators.call_open(store, chain, config))
    }

    /// Metrics that user code declared, with their current values.
    pub fn metrics(&self) -> &[UserMetric] {
        &self.store.data().metrics
    }

    /// Linear memory in use, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().limiter.memory_bytes
    }

    /// Gives later calls less time: an examination must not take as long as the failure did.
    pub(crate) fn shorten_deadline(&mut self, deadline: Duration) {
        self.deadline_ticks = self.deadline_ticks.min(ticks(deadline));
    }

    pub(crate) fn state(&mut self) -> &mut HostState {
        self.store.data_mut()
    }

    fn begin(&mut self, now: i64) {
        self.store.set_epoch_deadline(self.deadline_ticks);
        self.store.data_mut().begin_call(now);
    }

    fn finish<T>(&mut self, result: wasmtime::Result<T>) -> Result<T, CallFailure> {
        result.map_err(|error| trap::failure(&error, self.store.data_mut()))
    }

    /// Runs one call on the `operators` interface under the deadline.
    pub(crate) fn call<T>(
        &mut self,
        now: i64,
        call: impl FnOnce(&operators::Guest, &mut Store<HostState>) -> wasmtime::Result<Result<T, operators::CallError>>,
    ) -> Result<T, CallFailure> {
        self.begin(now);
        self.enter(call)
    }

    /// Goes on with the call before, under what is left of its deadline: a guest that always has more to give would
    /// never end otherwise.
    pub(crate) fn resume<T>(
        &mut self,
        now: i64,
        call: impl FnOnce(&operators::Guest, &mut Store<HostState>) -> wasmtime::Result<Result<T, operators::CallError>>,
    ) -> Result<T, CallFailure> {
        self.store.data_mut().begin_call(now);
        self.enter(call)
    }

    fn enter<T>(
        &mut self,
        call: impl FnOnce(&operators::Guest, &mut Store<HostState>) -> wasmtime::Result<Result<T, operators::CallError>>,
    ) -> Result<T, CallFailure> {
        let result = call(self.exports.millrace_pipeline_operators(), &mut self.store);
        let answer = self.finish(result)?;
        answer.map_err(|error| CallFailure {
            operator: error.operator,
            entry: error.entry,
            code: "PL0008",
            message: error.message,
            trapped: false,
            by_entry: true,
            host_error: None,
        })
    }
}
