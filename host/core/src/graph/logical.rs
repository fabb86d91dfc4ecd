//! Types of the logical graph. See `wit/dataflow.wit` for the meaning of every field: these are the same
//! declarations with Arrow schemas, indices as newtypes and nothing else.

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use serde::Serialize;

use crate::block::Millis;
use crate::collections::CollectionSchema;
use crate::graph::{LookupDecl, PatternDecl, RequestsDecl};
use crate::schema::{Declared, Hints};

/// Index of an operator in [`Graph::operators`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OperatorIndex(pub u32);

/// Index of a chain in [`Graph::chains`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ChainIndex(pub u32);

/// Type of a pipeline parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// Any text.
    Text,
    /// A decimal i64.
    Integer,
    /// An f64.
    Float,
    /// `true` or `false`.
    Boolean,
    /// `10s`, `5m`, `250ms`; passed to the guest in ms.
    Duration,
}

/// A parameter that a pipeline understands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Name, as in `--param name=value`.
    pub name: String,
    /// Type that the value is checked against.
    pub parameter_type: ParameterType,
    /// Value if none is given; `None`: required.
    pub default_value: Option<String>,
    /// One line of help.
    pub doc: String,
}

/// A native connector with its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectorConfig {
    /// Which connector.
    pub kind: String,
    /// Its options, as written.
    pub options: Vec<(String, String)>,
}

/// What happens to rejected rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum RejectPolicy {
    /// The job fails.
    Fail,
    /// Dropped and counted.
    Skip,
    /// Appended to this file as JSON lines.
    DeadLetter(String),
}

/// Where event time comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum EventTime {
    /// A column.
    Field(String),
    /// The upstream port computes it.
    Computed,
    /// The clock when the host takes the row in.
    Ingestion,
}

/// How the watermark follows from rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum WatermarkSource {
    /// It stays this many ms and one behind the latest row.
    Bounded(u64),
    /// Rows say it, in this nullable column.
    Field(String),
    /// The upstream port computes it, as its computed key.
    Computed,
    /// It stays this many ms behind the clock, whether rows come or not.
    Clock(u64),
}

/// Sources that read abreast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatermarkAlignment {
    /// Whose name they share.
    pub group: String,
    /// How far ahead of the least watermark of the group one may be.
    pub max_drift_ms: u64,
}

/// Event time and watermarks of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatermarkStrategy {
    /// Where event time comes from.
    pub time: EventTime,
    /// How the watermark follows.
    pub source: WatermarkSource,
    /// After how long without rows an input no longer holds back the others, in ms.
    pub idle_after_ms: Option<u64>,
    /// Which sources wait for each other.
    pub alignment: Option<WatermarkAlignment>,
}

impl WatermarkStrategy {
    /// How far rows may come after a row with a later time, in ms.
    pub fn out_of_orderness_ms(&self) -> u64 {
        match self.source {
            WatermarkSource::Bounded(bound) => bound,
            WatermarkSource::Field(_) | WatermarkSource::Computed | WatermarkSource::Clock(_) => 0,
        }
    }
}

/// What an operator is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum OperatorKind {
    /// Native source.
    Source {
        /// Which connector.
        connector: ConnectorConfig,
        /// Rows it gives.
        #[serde(skip)]
        schema: SchemaRef,
        /// What its fields say of themselves: the variants of enums.
        #[serde(skip)]
        hints: Vec<Hints>,
        /// Rows that do not parse.
        on_reject: RejectPolicy,
    },
    /// Native sink.
    Sink {
        /// Which connector.
        connector: ConnectorConfig,
    },
    /// Assigns event time, makes watermarks.
    Watermarks(WatermarkStrategy),
    /// Makes HTTP requests for rows.
    Requests(RequestsDecl),
    /// Looks rows up in a table.
    Lookup(LookupDecl),
    /// Runs in the guest.
    Function {
        /// The SDK's word for it.
        construct: String,
        /// Chain it is fused into.
        chain: ChainIndex,
        /// Rows it rejects.
        on_reject: RejectPolicy,
    },
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// For people.
    pub name: String,
    /// Names its state across upgrades.
    pub uid: Option<String>,
    /// What it is.
    pub kind: OperatorKind,
    /// Number of subtasks, if not the job's.
    pub parallelism: Option<u32>,
    /// Whose slots it runs in, if not in those of its inputs.
    pub slot_sharing_group: Option<String>,
}

/// Which subtask gets a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Partition {
    /// Subtask i to subtask i; round robin where the parallelism differs.
    Forward,
    /// By key group of columns.
    HashFields(Vec<u32>),
    /// By key group of the port's computed key.
    HashComputed,
    /// Round robin, block by block, past those that cannot keep up.
    Rebalance,
    /// Round robin within each sender's part of the receivers.
    Rescale,
    /// Row by row at random.
    Shuffle,
    /// By the number that is the port's computed key.
    Numbered,
    /// All rows to all.
    Broadcast,
    /// All rows to subtask 0.
    Global,
    /// Subtask i to subtask i, or not at all.
    SameSubtask,
}

/// From an output port to an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// Sending operator; with a chain, its last operator or the one that owns the port.
    pub from_operator: OperatorIndex,
    /// Port of the sending chain.
    pub from_port: u32,
    /// Receiving operator; with a chain, its head.
    pub to_operator: OperatorIndex,
    /// Input of the receiving chain.
    pub to_input: u32,
    /// Which subtask.
    pub partition: Partition,
}

/// Shape of a keyed state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum StateKind {
    /// One value.
    Value,
    /// A list.
    List,
    /// A map.
    Map,
    /// A map whose entries live in the host.
    LargeMap,
    /// A list whose items live in the host.
    LargeList,
    /// A map that every subtask has whole, whose entries live in the host.
    BroadcastMap,
    /// A window's accumulator.
    Accumulator,
    /// A list of a subtask of which every subtask is told the items of all when a job goes on.
    UnionList,
}

/// How long a state lives without being touched, by processing time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TimeToLive {
    /// From its last renewal until it is as if cleared.
    pub after_ms: Millis,
    /// What begins its time anew.
    pub renewed_by: Renewal,
}

/// What begins the time of a state anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Renewal {
    /// To be written.
    Write,
    /// To be read or written.
    ReadOrWrite,
}

impl std::fmt::Display for TimeToLive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = match self.renewed_by {
            Renewal::Write => "writes",
            Renewal::ReadOrWrite => "reads and writes",
        };
        write!(f, "{} ms from {by} on", self.after_ms)
    }
}

/// Name of the one key column of a head whose rows have no key: the number of the subtask.
pub const SUBTASK_KEY: &str = "$subtask";

/// The key of a head whose rows have no key.
///
/// ```
/// # use millrace_core::graph::subtask_key;
/// assert_eq!(subtask_key().field(0).name(), "$subtask");
/// ```
pub fn subtask_key() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(SUBTASK_KEY, DataType::UInt32, false)]))
}

/// A keyed state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateDecl {
    /// Unique in the chain.
    pub name: String,
    /// Names that it had.
    pub aliases: Vec<String>,
    /// Shape.
    pub kind: StateKind,
    /// One nullable field.
    #[serde(skip)]
    pub schema: SchemaRef,
    /// What that field says of its earlier versions.
    #[serde(skip)]
    pub hints: Hints,
    /// Earlier schemas whose values the guest converts itself: one nullable field each.
    #[serde(skip)]
    pub migrations: Vec<Declared>,
    /// How long it lives; `None`: until it is cleared.
    pub ttl: Option<TimeToLive>,
}

impl StateKind {
    /// Whether entries live in the host, one by one.
    pub fn is_large(self) -> bool {
        match self {
            StateKind::LargeMap | StateKind::LargeList | StateKind::BroadcastMap => true,
            StateKind::Value | StateKind::List | StateKind::Map | StateKind::Accumulator | StateKind::UnionList => {
                false
            }
        }
    }
}

impl StateDecl {
    /// Its field, under the name of the state and nullable.
    pub fn field(&self) -> FieldRef {
        let field = self.schema.field(0).clone().with_name(&self.name);
        Arc::new(field.with_nullable(true))
    }

    /// What its entries are, if it is large.
    pub fn collection(&self) -> Option<CollectionSchema> {
        let collection = CollectionSchema::of(&self.field()).filter(|_| self.kind.is_large())?;
        Some(CollectionSchema {
            broadcast: self.kind == StateKind::BroadcastMap,
            ttl: self.ttl,
            ..collection
        })
    }
}

/// How rows fall into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum WindowAssigner {
    /// Back to back.
    Tumbling {
        /// Length in ms.
        size_ms: i64,
        /// Shift of the grid in ms.
        offset_ms: i64,
    },
    /// Overlapping.
    Sliding {
        /// Length in ms.
        size_ms: i64,
        /// Distance between starts in ms.
        slide_ms: i64,
        /// Shift of the grid in ms.
        offset_ms: i64,
    },
    /// Closed by a pause.
    Session {
        /// Length of the pause in ms; events exactly one gap apart share a session.
        gap_ms: i64,
    },
}

impl WindowAssigner {
    /// What the windows are, in words.
    ///
    /// ```
    /// # use millrace_core::graph::WindowAssigner;
    /// let windows = WindowAssigner::Sliding { size_ms: 4_000, slide_ms: 1_500, offset_ms: 2_000 };
    /// assert_eq!(windows.description(), "sliding windows of 4s every 1.5s that begin 500ms later");
    /// ```
    pub fn description(self) -> String {
        let time = |ms: Millis| Duration::from_millis(ms.unsigned_abs());
        let later = |offset_ms: Millis, step_ms: Millis| match offset_ms.rem_euclid(step_ms.max(1)) {
            0 => String::new(),
            offset_ms => format!(" that begin {:?} later", time(offset_ms)),
        };
        match self {
            WindowAssigner::Tumbling { size_ms, offset_ms } => {
                format!("tumbling windows of {:?}{}", time(size_ms), later(offset_ms, size_ms))
            }
            WindowAssigner::Sliding {
                size_ms,
                slide_ms,
                offset_ms,
            } if size_ms == slide_ms => WindowAssigner::Tumbling { size_ms, offset_ms }.description(),
            WindowAssigner::Sliding {
                size_ms,
                slide_ms,
                offset_ms,
            } => {
                let (size, slide) = (time(size_ms), time(slide_ms));
                format!(
                    "sliding windows of {size:?} every {slide:?}{}",
                    later(offset_ms, slide_ms)
                )
            }
            WindowAssigner::Session { gap_ms } => format!("sessions with gaps of {:?}", time(gap_ms)),
        }
    }
}

/// A windowed chain head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WindowDecl {
    /// How rows fall into windows.
    pub assigner: WindowAssigner,
    /// How long a fired window waits for late rows, in ms.
    pub allowed_lateness_ms: Millis,
    /// Of each input the port for rows too late for any window; shorter: there is none for the rest.
    pub late_ports: Vec<Option<u32>>,
}

/// What the first operator of a chain is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::large_enum_variant, reason = "one per chain, and few chains have no state")]
pub enum Head {
    /// Rows in, rows out.
    Stateless,
    /// Keyed state and timers.
    Keyed {
        /// Key columns.
        #[serde(skip)]
        key_schema: SchemaRef,
        /// What they say of their earlier versions; shorter: the rest say nothing.
        #[serde(skip)]
        key_hints: Vec<Hints>,
        /// States.
        states: Vec<StateDecl>,
        /// Every entry writes all states.
        always_writes: bool,
        /// It is a pattern, which has one state, of the host's making.
        pattern: Option<Box<PatternDecl>>,
        /// Rows have no key: all of a subtask's have that of the subtask.
        unkeyed: bool,
        /// Broadcast rows may ask for every key.
        applies: bool,
        /// The windows that the states are of, in words, if the guest keeps windows.
        windows: Option<String>,
    },
    /// Windows by accumulators.
    Window {
        /// Key columns.
        #[serde(skip)]
        key_schema: SchemaRef,
        /// What they say of their earlier versions; shorter: the rest say nothing.
        #[serde(skip)]
        key_hints: Vec<Hints>,
        /// The windows.
        window: WindowDecl,
        /// Their accumulator.
        accumulator: StateDecl,
    },
}

/// Where rows leave a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Whose rows these are.
    pub operator: OperatorIndex,
    /// Name of a side output; `None`: the main output.
    pub side: Option<String>,
    /// Schema of the rows.
    #[serde(skip)]
    pub schema: SchemaRef,
    /// What its fields say of themselves: the variants of enums.
    #[serde(skip)]
    pub hints: Vec<Hints>,
    /// The guest computes `$time`.
    pub computes_time: bool,
    /// Key columns that end the port's blocks.
    #[serde(skip)]
    pub computed_key: Option<SchemaRef>,
}

/// Operators fused into one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// In the order in which rows pass.
    pub operators: Vec<OperatorIndex>,
    /// Schema of each input.
    #[serde(skip)]
    pub inputs: Vec<SchemaRef>,
    /// What the fields of each input say of themselves: the variants of enums.
    #[serde(skip)]
    pub input_hints: Vec<Vec<Hints>>,
    /// The first operator.
    pub head: Head,
    /// Where rows leave.
    pub ports: Vec<Port>,
}

/// What a pipeline declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// For people.
    pub name: String,
    /// Nodes.
    pub operators: Vec<Operator>,
    /// Edges.
    pub edges: Vec<Edge>,
    /// Fused operators.
    pub chains: Vec<Chain>,
    /// Number of key groups; 0: the default.
    pub max_parallelism: u32,
}
