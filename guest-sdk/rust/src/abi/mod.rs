//! The contract's exports: calls from the host, handed to the chains by number.

#[cfg(target_arch = "wasm32")]
mod allocator;
pub(crate) mod host;
mod instance;
mod panic;

use std::cell::RefCell;
use std::fmt::Display;
use std::marker::PhantomData;

use crate::Flow;
use crate::bindings::dataflow::{self, BuildInput, Graph, Parameter};
use crate::bindings::operators::{
    self, CallError, CallResult, Candidates, Matches, Moment, OpenConfig, PrefetchRequest, RowConditions, TimerKind,
};
use crate::bindings::types;
use crate::block::Block;
use crate::chain::Work;
use crate::chain::exit::to_contract;
use crate::parameters::{ParameterDecl, ParameterType, Parameters};
use crate::stream::SinkOperator;

pub(crate) use instance::Instance;

thread_local! {
    static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
}

/// What `export_pipeline!` makes of the user's function.
pub trait Pipeline {
    /// Parameters that it understands.
    type Parameters: Parameters;
    /// Its name until `Flow::name` gives it another: that of the user's function.
    const NAME: &'static str;
    /// Calls the user's function.
    fn build(flow: &Flow, parameters: Self::Parameters) -> Result<(), String>;
}

/// What a function that builds a dataflow may return: nothing, or a result whose error can be shown.
pub trait Outcome {
    /// The error as text.
    fn into_result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

/// A pipeline of one statement may end with its sink.
impl Outcome for SinkOperator {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// The component: the contract's exports over a pipeline.
#[derive(Debug)]
pub struct Component<P> {
    pipeline: PhantomData<P>,
}

fn host_block(block: types::Block) -> Block {
    Block::from_host(block.rows, block.data, block.ends)
}

fn with_instance<R>(call: impl FnOnce(&mut Instance) -> Result<R, CallError>) -> Result<R, CallError> {
    INSTANCE.with_borrow_mut(|instance| match instance {
        Some(instance) => call(instance),
        None => Err(crate::chain::failure("`build` comes before any other call")),
    })
}

impl<P: Pipeline> dataflow::Guest for Component<P> {
    fn parameters() -> Vec<Parameter> {
        declare::<P::Parameters>()
    }

    fn build(input: BuildInput) -> Result<Graph, String> {
        panic::install_hook();
        let parameters = P::Parameters::parse(&input.parameters)?;
        let flow = Flow::new();
        flow.name(P::NAME);
        P::build(&flow, parameters)?;
        let finished = flow.finish()?;
        INSTANCE.set(Some(Instance::new(finished.chains)));
        Ok(finished.graph)
    }
}

impl<P: Pipeline> operators::Guest for Component<P> {
    fn open(chain: u32, config: OpenConfig) -> Result<(), CallError> {
        with_instance(|instance| instance.open(chain, &config))
    }

    fn process(chain: u32, input: u32, at: Moment, rows: types::Block) -> Result<CallResult, CallError> {
        let block = host_block(rows);
        let work = Work::Rows {
            block: &block,
            slots: &[],
            input,
        };
        with_instance(|instance| instance.call(chain, at, &work))
    }

    fn process_keyed(
        chain: u32,
        input: u32,
        at: Moment,
        slots: Vec<u32>,
        rows: types::Block,
    ) -> Result<CallResult, CallError> {
        let block = host_block(rows);
        let work = Work::Rows {
            block: &block,
            slots: &slots,
            input,
        };
        with_instance(|instance| instance.call(chain, at, &work))
    }

    fn timers(
        chain: u32,
        at: Moment,
        kind: TimerKind,
        slots: Vec<u32>,
        times: Vec<i64>,
        keys: types::Block,
    ) -> Result<CallResult, CallError> {
        let keys = host_block(keys);
        let work = Work::Timers {
            kind,
            slots: &slots,
            times: &times,
            keys: &keys,
        };
        with_instance(|instance| instance.call(chain, at, &work))
    }

    fn accumulate(
        chain: u32,
        input: u32,
        at: Moment,
        slots: Vec<u32>,
        rows: types::Block,
        _emit_after: Vec<u32>,
        _purge_after: Vec<u32>,
    ) -> Result<CallResult, CallError> {
        let rows = host_block(rows);
        with_instance(|instance| instance.accumulate(chain, input, at, &slots, &rows))
    }

    fn merge(chain: u32, targets: Vec<u32>, sources: Vec<u32>) -> Result<(), CallError> {
        with_instance(|instance| instance.head(chain)?.merge(&targets, &sources))
    }

    fn emit(
        chain: u32,
        at: Moment,
        slots: Vec<u32>,
        starts: Vec<i64>,
        ends: Vec<i64>,
        keys: types::Block,
        then_drop: bool,
    ) -> Result<CallResult, CallError> {
        let keys = host_block(keys);
        let work = Work::Windows {
            slots: &slots,
            starts: &starts,
            ends: &ends,
            keys: &keys,
            then_drop,
        };
        with_instance(|instance| instance.call(chain, at, &work))
    }

    fn conditions(chain: u32, _at: Moment, rows: types::Block) -> Result<RowConditions, CallError> {
        let rows = host_block(rows);
        with_instance(|instance| instance.conditions(chain, &rows))
    }

    fn iterative_conditions(
        chain: u32,
        _at: Moment,
        rows: types::Block,
        candidates: Candidates,
    ) -> Result<Vec<bool>, CallError> {
        let rows = host_block(rows);
        with_instance(|instance| instance.iterative_conditions(chain, &rows, &candidates))
    }

    fn select(chain: u32, at: Moment, rows: types::Block, matches: Matches) -> Result<CallResult, CallError> {
        let rows = host_block(rows);
        let work = Work::Matches {
            block: &rows,
            matches: &matches,
        };
        with_instance(|instance| instance.call(chain, at, &work))
    }

    fn resume(_chain: u32, _at: Moment) -> Result<CallResult, CallError> {
        Err(crate::chain::failure("no call of this pipeline stops early"))
    }

    fn prefetch(_chain: u32, _input: u32, _slots: Vec<u32>, _rows: types::Block) -> Vec<PrefetchRequest> {
        Vec::new()
    }

    fn export_state(chain: u32, state: u32, slots: Vec<u32>) -> Result<types::Block, CallError> {
        with_instance(|instance| instance.head(chain)?.export_state(state, &slots).map(to_contract))
    }

    fn import_state(chain: u32, state: u32, slots: Vec<u32>, values: types::Block) -> Result<(), CallError> {
        let values = host_block(values);
        with_instance(|instance| instance.head(chain)?.import_state(state, &slots, &values))
    }

    fn migrate_state(chain: u32, state: u32, migration: u32, old: types::Block) -> Result<types::Block, CallError> {
        let old = host_block(old);
        with_instance(|instance| {
            let migrated = instance.head(chain)?.migrate_state(state, migration, &old);
            migrated.map(to_contract)
        })
    }

    fn drop_state(chain: u32, slots: Vec<u32>) -> Result<(), CallError> {
        with_instance(|instance| {
            instance.head(chain)?.drop_state(&slots);
            Ok(())
        })
    }

    fn close(chain: u32, at: Moment) -> Result<CallResult, CallError> {
        with_instance(|instance| instance.call(chain, at, &Work::Close))
    }
}

/// Parameters as the contract declares them.
pub fn declare<P: Parameters>() -> Vec<Parameter> {
    let declare = |parameter: ParameterDecl| Parameter {
        name: parameter.name,
        parameter_type: match parameter.parameter_type {
            ParameterType::Text => dataflow::ParameterType::Text,
            ParameterType::Integer => dataflow::ParameterType::Integer,
            ParameterType::Float => dataflow::ParameterType::Float,
            ParameterType::Boolean => dataflow::ParameterType::Boolean,
            ParameterType::Duration => dataflow::ParameterType::Duration,
        },
        default_value: parameter.default_value,
        doc: parameter.doc,
    };
    P::declare().into_iter().map(declare).collect()
}

/// Exports a function that builds a dataflow as the pipeline of this crate:
/// `export_pipeline!(build, Params)`, or `export_pipeline!(build)` without parameters.
///
/// [`#[millrace::pipeline]`](macro@crate::pipeline) on the function does the same and reads better.
///
/// ```
/// use millrace::prelude::*;
///
/// fn build(flow: &Flow) -> Result<()> {
///     flow.name("nothing yet");
///     Ok(())
/// }
/// millrace::export_pipeline!(build);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_pipeline {
    ($build:path) => {
        $crate::export_pipeline!(@ ::std::stringify!($build), (), |flow, _parameters| $build(flow));
    };
    ($build:path, ()) => {
        $crate::export_pipeline!(@ ::std::stringify!($build), (), |flow, _parameters| $build(flow));
    };
    ($build:path, $params:ty) => {
        $crate::export_pipeline!(@ ::std::stringify!($build), $params, |flow, parameters| $build(flow, parameters));
    };
    (@ $name:expr, $params:ty, |$flow:ident, $parameters:ident| $call:expr) => {
        const _: () = {
            struct Exported;

            impl $crate::abi::Pipeline for Exported {
                type Parameters = $params;
                const NAME: &'static str = $name;

                fn build($flow: &$crate::Flow, $parameters: $params) -> ::std::result::Result<(), ::std::string::String> {
                    $crate::abi::Outcome::into_result($call)
                }
            }

            // Elsewhere, as in unit tests, nothing calls it; it is in use all the same.
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(&$crate::Flow, $params) -> ::std::result::Result<(), ::std::string::String> =
                <Exported as $crate::abi::Pipeline>::build;
            #[cfg(target_arch = "wasm32")]
            type ExportedComponent = $crate::abi::Component<Exported>;
            #[cfg(target_arch = "wasm32")]
            $crate::bindings::export_component!(ExportedComponent with_types_in $crate::bindings);
        };
    };
}
