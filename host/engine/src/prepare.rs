//! From a file to a job that can start: load, parameters, graph, plan, connectors.
//!
//! Everything that can be refused is refused here, before a row moves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_connectors::{Enums, keyed_table_with_names, sink_with_names, source_with_names};
use millrace_core::checkpoint::{CheckpointConfig, CheckpointId, RestartStrategy};
use millrace_core::connector::{
    Boundedness, Connector, Delivery, KeyedTable, Options, Replay, Sink, SinkContext, Source,
};
use millrace_core::graph::{
    Chain, ConnectorConfig, Graph, Head, LookupDecl, OperatorIndex, OperatorKind, Origin, Parameter, TableAccess,
    operator_ids,
};
use millrace_core::key::check_key_schema;
use millrace_core::plan::{self, Plan, TaskKind};
use millrace_core::schema::{Hints, KeyedSchema};
use millrace_core::upgrade::Upgrade;
use millrace_core::{Error, Result};
use millrace_state::convert;
use millrace_wasm::{Limits, LogLevel, LogSink, Pipeline, Runtime};

use crate::backend::StateBackend;
use crate::env::Clock;
use crate::job::Job;
use crate::snapshot_tasks::snapshot_tasks;
use crate::{parameters, restore};

/// How a job is to run.
#[derive(Clone)]
pub struct JobOptions {
    /// Parallelism of operators that do not set their own.
    pub parallelism: u32,
    /// Most rows in a block that a source gives; where its rows are split by key, about what each receiver gets.
    pub block_rows: usize,
    /// Most rows that each source reads in a second, all its subtasks together; `None`: as many as can be processed.
    pub source_rate: Option<u64>,
    /// Limits of each instance.
    pub limits: Limits,
    /// Folder for compiled code.
    pub cache: Option<PathBuf>,
    /// Where log lines go, of user code and of the job itself.
    pub log: LogSink,
    /// Of user code only warnings and errors are wanted.
    pub quiet: bool,
    /// Feeds random numbers.
    pub seed: u64,
    /// Where the state of keys and windows is.
    pub backend: StateBackend,
    /// Checkpoints, if they are taken; without any a failure ends the job.
    pub checkpoints: Option<CheckpointOptions>,
    /// What a new run begins with, if not with nothing.
    pub from: Option<Beginning>,
    /// What follows when user code traps.
    pub on_trap: OnTrap,
    /// Where the pipeline may send requests to.
    pub allow_http: Vec<Origin>,
    /// Where the job can be found while it runs, if it can.
    pub api: Option<ApiOptions>,
}

/// A savepoint, or a checkpoint of another run, that a run begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// Folder or URL where it is; of a checkpoint `<storage>/<job>/<run>/chk-<id>`.
    pub url: String,
    /// State that the pipeline does not declare is left behind.
    pub allow_non_restored_state: bool,
    /// The run owns it, and deletes it when it has as many checkpoints as it is to retain.
    pub claim: bool,
}

/// What follows when user code traps, runs too long or takes too much in one call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnTrap {
    /// The job fails, and its restart strategy decides.
    #[default]
    Fail,
    /// The job goes on from its last checkpoint without the row, timer or window that does it, which goes to the dead
    /// letter. Only with checkpoints.
    Quarantine {
        /// Dead-letter file for operators whose reject policy names none.
        dead_letter: Option<String>,
        /// How many rows, timers and windows may go there before the job fails for good.
        rows_max: u64,
    },
}

impl OnTrap {
    /// [`rows_max`](OnTrap::Quarantine::rows_max) unless something else is said: a function that fails on more is wrong,
    /// and not its rows.
    pub const ROWS_MAX_DEFAULT: u64 = 100;
}

/// How a running job can be reached.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// Folder of this user, shared by all jobs that are to find each other; the job's socket is below it.
    pub data_dir: PathBuf,
    /// Without a socket the job does not run either; otherwise it says so and runs.
    pub required: bool,
    /// Folder or URL below which savepoints go whose place nobody says.
    pub savepoint_dir: String,
    /// What to do about an error, by its code.
    pub remedy: fn(&str) -> Option<String>,
}

/// How a job is to survive.
#[derive(Debug, Clone)]
pub struct CheckpointOptions {
    /// Folder or URL where checkpoints go.
    pub storage: String,
    /// When they are taken and how many are kept.
    pub config: CheckpointConfig,
    /// Where to begin.
    pub restore: Restore,
    /// What follows a failure.
    pub restart: RestartStrategy,
}

/// Where a job begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// A new run, which begins with [`JobOptions::from`].
    Nothing,
    /// From the latest checkpoint of the latest run; from what that began with if it has none.
    Latest,
}

/// Rows per block: enough to spread the cost of a call, few enough to stay in the second-level cache.
const BLOCK_ROWS_DEFAULT: usize = 2_048;

impl JobOptions {
    /// Where log lines of user code go.
    pub(crate) fn guest_log(&self) -> LogSink {
        let log = self.log.clone();
        if !self.quiet {
            return log;
        }
        Arc::new(move |level, line| match level {
            LogLevel::Warn | LogLevel::Error => log(level, line),
            LogLevel::Trace | LogLevel::Debug | LogLevel::Info => {}
        })
    }
}

impl Default for JobOptions {
    fn default() -> Self {
        JobOptions {
            parallelism: 1,
            block_rows: BLOCK_ROWS_DEFAULT,
            source_rate: None,
            limits: Limits::default(),
            cache: None,
            log: Arc::new(|_, _| ()),
            quiet: false,
            seed: 0,
            backend: StateBackend::default(),
            checkpoints: None,
            from: None,
            on_trap: OnTrap::Fail,
            allow_http: Vec::new(),
            api: None,
        }
    }
}

/// A compiled pipeline.
pub struct Loaded {
    pipeline: Pipeline,
    options: JobOptions,
    parameters: Vec<Parameter>,
}

impl Loaded {
    /// Compiles a pipeline (or finds it in the cache) and asks for its parameters.
    pub fn new(bytes: &[u8], options: JobOptions) -> Result<Self> {
        let runtime = Runtime::new(options.limits.clone(), options.cache.clone())?;
        let pipeline = runtime.load(bytes)?;
        let parameters = pipeline.parameters(options.guest_log())?;
        Ok(Loaded {
            pipeline,
            options,
            parameters,
        })
    }

    /// Parameters that the pipeline declares.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// SHA-256 of the component.
    pub fn hash(&self) -> &str {
        self.pipeline.hash()
    }

    /// Functions that the pipeline imports from the host.
    pub fn imports(&self) -> &[String] {
        &self.pipeline.imports().0
    }

    /// Builds and plans the dataflow and makes its connectors; nothing outside is touched yet.
    pub fn prepare(self, given: &[(String, String)]) -> Result<Prepared> {
        let parameters = parameters::resolve(&self.parameters, given)?;
        let mut instance = self.pipeline.instantiate(self.options.seed, self.options.guest_log())?;
        let graph = instance.build(&parameters)?;
        let plan = plan::plan(&graph, self.options.parallelism)?;
        check_keys(&graph)?;
        check_defaults(&graph)?;
        check_quarantine(&graph, &self.options.on_trap)?;
        let connectors = Connectors::new(&graph, &plan)?;
        let Loaded { pipeline, options, .. } = self;
        Ok(Prepared {
            pipeline,
            options,
            parameters,
            graph,
            plan,
            connectors,
        })
    }
}

fn check_keys(graph: &Graph) -> Result<()> {
    for chain in &graph.chains {
        let (Head::Keyed { key_schema, .. } | Head::Window { key_schema, .. }) = &chain.head else {
            continue;
        };
        let name = &graph.operators[chain.operators[0].0 as usize].name;
        check_key_schema(key_schema).map_err(|error| error.context(format!("operator `{name}`")))?;
    }
    Ok(())
}

/// Careful mode makes calls for one entry at a time, and those of a turn of every key are many.
fn check_quarantine(graph: &Graph, on_trap: &OnTrap) -> Result<()> {
    if matches!(on_trap, OnTrap::Fail) {
        return Ok(());
    }
    let applies = |chain: &&Chain| matches!(&chain.head, Head::Keyed { applies: true, .. });
    if let Some(chain) = graph.chains.iter().find(applies) {
        let name = &graph.operators[chain.operators[0].0 as usize].name;
        return Err(Error::user(
            "QU0006",
            format!(
                "operator `{name}` may apply a function to every key, for which there is no `--on-trap quarantine` yet"
            ),
        ));
    }
    Ok(())
}

/// Whatever is ever converted, defaults are values of their fields.
fn check_defaults(graph: &Graph) -> Result<()> {
    for operator in &graph.operators {
        if let OperatorKind::Requests(requests) = &operator.kind {
            for state in requests.keyed_schema().states {
                let context = |error: Error| error.context(format!("operator `{}`", operator.name));
                convert::check_defaults(&state.value).map_err(context)?;
            }
        }
    }
    for chain in &graph.chains {
        let name = &graph.operators[chain.operators[0].0 as usize].name;
        for state in KeyedSchema::of_head(&chain.head).iter().flat_map(|keyed| &keyed.states) {
            let context = |error: Error| error.context(format!("operator `{name}`, state `{}`", state.name()));
            convert::check_defaults(&state.value).map_err(context)?;
        }
    }
    Ok(())
}

/// Sources, sinks and tables by operator.
pub(crate) struct Connectors {
    pub(crate) sources: BTreeMap<OperatorIndex, Arc<dyn Source>>,
    pub(crate) sinks: BTreeMap<OperatorIndex, Arc<dyn Sink>>,
    pub(crate) tables: BTreeMap<OperatorIndex, Table>,
}

/// A table that rows are looked up in.
#[derive(Clone)]
pub(crate) enum Table {
    /// It is read as a whole.
    Whole(Arc<dyn Source>),
    /// It is asked for keys.
    Keyed(Arc<dyn KeyedTable>),
}

impl Connectors {
    fn new(graph: &Graph, plan: &Plan) -> Result<Self> {
        let mut connectors = Connectors {
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            tables: BTreeMap::new(),
        };
        let ids = operator_ids(graph);
        for (index, operator) in (0u32..).map(OperatorIndex).zip(&graph.operators) {
            match &operator.kind {
                OperatorKind::Source {
                    connector,
                    schema,
                    hints,
                    ..
                } => {
                    let make: MakeSource = |connector, options, schema| connector.source(options, schema);
                    let source = source(connector, RowSchema { schema, hints }, make);
                    let source = source.map_err(|error| error.context(format!("source `{}`", operator.name)))?;
                    connectors.sources.insert(index, source);
                }
                OperatorKind::Sink { connector } => {
                    let rows = sink_schema(graph, plan, index);
                    let sink = rows.and_then(|rows| {
                        let context = SinkContext {
                            job: graph.name.clone(),
                            operator: ids[index.0 as usize].clone(),
                        };
                        sink(connector, rows, &context)
                    });
                    let sink = sink.map_err(|error| error.context(format!("sink `{}`", operator.name)))?;
                    connectors.sinks.insert(index, sink);
                }
                OperatorKind::Lookup(declared) => {
                    let table = table(declared);
                    let table = table.map_err(|error| error.context(format!("operator `{}`", operator.name)))?;
                    connectors.tables.insert(index, table);
                }
                OperatorKind::Watermarks(_) | OperatorKind::Requests(_) | OperatorKind::Function { .. } => {}
            }
        }
        Ok(connectors)
    }
}

/// Schema of the rows of an edge, with what their fields say of themselves.
#[derive(Clone, Copy)]
struct RowSchema<'g> {
    schema: &'g SchemaRef,
    hints: &'g [Hints],
}

impl RowSchema<'_> {
    fn enums(self) -> Option<Enums> {
        Enums::of(self.schema, self.hints)
    }
}

/// What a connector makes of options and a schema to be read from.
type MakeSource = fn(&dyn Connector, Options, SchemaRef) -> Result<Option<Arc<dyn Source>>>;

/// Connectors know enums by the names of their variants.
fn source(config: &ConnectorConfig, rows: RowSchema<'_>, make: MakeSource) -> Result<Arc<dyn Source>> {
    let connector = millrace_connectors::connector(&config.kind)?;
    let options = Options::new(config.options.clone())?;
    let enums = rows.enums();
    let schema = enums.as_ref().map_or(rows.schema, Enums::outside);
    let source = make(connector.as_ref(), options, schema.clone())?.ok_or_else(|| {
        Error::user(
            "CN0102",
            format!("connector `{}` is a sink and cannot be read", config.kind),
        )
    })?;
    Ok(match enums {
        Some(enums) => source_with_names(source, enums),
        None => source,
    })
}

fn table(declared: &LookupDecl) -> Result<Table> {
    let config = &declared.connector;
    let rows = RowSchema {
        schema: &declared.table,
        hints: &declared.table_hints,
    };
    if let TableAccess::Full { .. } = declared.access {
        let make: MakeSource = |connector, options, schema| connector.whole_table(options, schema);
        let source = source(config, rows, make)?;
        return match source.boundedness() {
            Boundedness::Bounded => Ok(Table::Whole(source)),
            Boundedness::Unbounded => Err(Error::user(
                "LU0002",
                "the table is to be read whole, but it has no end: do not follow or watch its files",
            )),
        };
    }
    let connector = millrace_connectors::connector(&config.kind)?;
    let options = Options::new(config.options.clone())?;
    let key: Vec<usize> = declared.key.iter().map(|column| *column as usize).collect();
    let enums = rows.enums();
    let schema = enums.as_ref().map_or(rows.schema, Enums::outside);
    let table = connector.keyed_table(options, schema.clone(), &key)?.ok_or_else(|| {
        let message = format!(
            "connector `{}` cannot be asked by key: have the table read whole",
            config.kind
        );
        Error::user("LU0002", message)
    })?;
    let Some(enums) = enums else {
        return Ok(Table::Keyed(table));
    };
    let hints: Vec<Hints> = key
        .iter()
        .filter_map(|column| rows.hints.get(*column).cloned())
        .collect();
    let key = Enums::of(&Arc::new(declared.key_schema()?), &hints);
    Ok(Table::Keyed(keyed_table_with_names(table, enums, key)))
}

fn sink(config: &ConnectorConfig, rows: RowSchema<'_>, context: &SinkContext) -> Result<Arc<dyn Sink>> {
    let connector = millrace_connectors::connector(&config.kind)?;
    let options = Options::new(config.options.clone())?;
    let enums = rows.enums();
    let schema = enums.as_ref().map_or(rows.schema, Enums::outside);
    let sink = connector.sink(options, schema.clone(), context)?.ok_or_else(|| {
        Error::user(
            "CN0102",
            format!("connector `{}` is a source and cannot be written", config.kind),
        )
    })?;
    Ok(match enums {
        Some(enums) => sink_with_names(sink, enums),
        None => sink,
    })
}

/// Schema of the rows that reach a native operator; the planner has seen to it that all its edges agree.
pub(crate) fn input_schema(graph: &Graph, plan: &Plan, kind: &TaskKind) -> SchemaRef {
    let task = plan.tasks.iter().position(|task| task.kind == *kind);
    let exchange = plan.exchanges.iter().find(|exchange| Some(exchange.to.0) == task);
    output_schema(
        graph,
        plan,
        exchange.expect("the planner refuses operators without an edge"),
    )
}

/// Schema of the rows that reach a sink; all its edges must agree.
fn sink_schema<'g>(graph: &'g Graph, plan: &Plan, sink: OperatorIndex) -> Result<RowSchema<'g>> {
    let task = plan
        .tasks
        .iter()
        .position(|task| task.kind == TaskKind::Sink { operator: sink });
    let task = task.expect("the plan has a task for each sink");
    let mut schemas = plan
        .exchanges
        .iter()
        .filter(|exchange| exchange.to.0 == task)
        .map(|exchange| output_rows(graph, plan, exchange));
    let first = schemas.next().expect("the planner refuses a sink without an edge");
    for other in schemas {
        if other.schema != first.schema {
            return Err(Error::user(
                "GR0007",
                format!(
                    "its inputs have different schemas: {:?} and {:?}",
                    first.schema, other.schema
                ),
            ));
        }
    }
    Ok(first)
}

/// Schema of the rows of an edge.
pub(crate) fn output_schema(graph: &Graph, plan: &Plan, exchange: &plan::Exchange) -> SchemaRef {
    output_rows(graph, plan, exchange).schema.clone()
}

fn output_rows<'g>(graph: &'g Graph, plan: &Plan, exchange: &plan::Exchange) -> RowSchema<'g> {
    match &plan.tasks[exchange.from.0].kind {
        TaskKind::Source { operator, .. } => match &graph.operators[operator.0 as usize].kind {
            OperatorKind::Source { schema, hints, .. } => RowSchema { schema, hints },
            _ => unreachable!("a source task is of a source operator"),
        },
        TaskKind::Chain { chain, .. } => {
            let port = &graph.chains[chain.0 as usize].ports[exchange.from_port as usize];
            RowSchema {
                schema: &port.schema,
                hints: &port.hints,
            }
        }
        TaskKind::Requests { operator } => match &graph.operators[operator.0 as usize].kind {
            OperatorKind::Requests(requests) => RowSchema {
                schema: &requests.schema,
                hints: &requests.hints,
            },
            _ => unreachable!("a task of requests is of an operator of requests"),
        },
        TaskKind::Lookup { operator } => match &graph.operators[operator.0 as usize].kind {
            OperatorKind::Lookup(lookup) => RowSchema {
                schema: &lookup.schema,
                hints: &lookup.hints,
            },
            _ => unreachable!("a task of a lookup is of an operator of a lookup"),
        },
        TaskKind::Watermarks { .. } => {
            let upstream = plan.exchanges.iter().find(|other| other.to == exchange.from);
            output_rows(
                graph,
                plan,
                upstream.expect("the planner refuses watermarks without an edge"),
            )
        }
        TaskKind::Sink { .. } => unreachable!("the planner refuses edges out of sinks"),
    }
}

/// Whether a job can begin with a savepoint or checkpoint.
#[derive(Debug)]
pub struct Check {
    /// Job that it is of.
    pub job: String,
    /// Run that it is of.
    pub run: String,
    /// Which checkpoint it is, or was made of.
    pub checkpoint: CheckpointId,
    /// What becomes of each operator.
    pub upgrade: Upgrade,
    /// Why the job cannot begin with it.
    pub refusal: Option<Error>,
}

/// A planned job whose connectors exist.
pub struct Prepared {
    pub(crate) pipeline: Pipeline,
    pub(crate) options: JobOptions,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) graph: Graph,
    pub(crate) plan: Plan,
    pub(crate) connectors: Connectors,
}

impl Prepared {
    /// The logical graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The physical plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Parameters with defaults filled in.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// What becomes of the rows of each source since a checkpoint that the job goes on from.
    pub fn replays(&self) -> impl Iterator<Item = (OperatorIndex, Replay)> {
        let sources = self.connectors.sources.iter();
        sources.map(|(operator, source)| (*operator, source.replay()))
    }

    /// What each sink guarantees.
    pub fn deliveries(&self) -> impl Iterator<Item = (OperatorIndex, Delivery)> {
        let sinks = self.connectors.sinks.iter();
        sinks.map(|(operator, sink)| (*operator, sink.delivery()))
    }

    /// What becomes of a savepoint's or checkpoint's state if the job begins with it, and why it cannot, if so. A
    /// start decides the same.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn check(&self, from: &Beginning) -> Result<Check> {
        let tasks = snapshot_tasks(&self.plan, &self.graph, &operator_ids(&self.graph));
        let restorable = restore::open(&from.url)?;
        let upgrade = restore::decide(&tasks, self.plan.max_parallelism, &restorable)?;
        let refusal = restore::refusal(
            &upgrade,
            (&self.graph, &self.plan),
            &tasks,
            &restorable,
            from.allow_non_restored_state,
            Clock::start().now_millis(),
        );
        let metadata = restorable.metadata();
        Ok(Check {
            job: metadata.job.clone(),
            run: metadata.run.clone(),
            checkpoint: metadata.checkpoint,
            upgrade,
            refusal,
        })
    }

    /// Opens everything and starts the slots.
    pub fn start(self) -> Result<Job> {
        Job::start(self)
    }
}
