//! Everything that a pipeline usually needs: `use millrace::prelude::*;`.
//!
//! ```
//! use millrace::prelude::*;
//!
//! #[derive(Record)]
//! struct Line<'a> { text: &'a str }
//!
//! #[millrace::pipeline]
//! fn shout(flow: &Flow) -> Result<()> {
//!     let lines: Stream<Rows<Line>> = flow.source("lines", Stdin::text());
//!     lines.filter(|line| line.text.ends_with('!')).sink("out", Stdout::text());
//!     Ok(())
//! }
//! # fn main() {}
//! ```

pub use std::time::Duration;

pub use crate::chain::{Chain, Rows};
pub use crate::connect::{
    AvroCodec, Compression, Connector, Discard, Files, Generator, Hybrid, Nexmark, Postgres, Redis, Reject, Sqlite,
    Stdin, Stdout, Tcp, Webhook,
};
pub use crate::http::{Http, HttpError, Request, Response, Retry};
pub use crate::join::{TaggedUnion, TimeBound};
pub use crate::keyed::{KeySelector, KeyedStream};
pub use crate::lookup::LookupTable;
pub use crate::metrics::{Counter, Gauge, Histogram};
pub use crate::process::{
    BroadcastContext, BroadcastProcess, CoContext, CoProcess, Context, KeyedBroadcastProcess, KeyedProcess,
    OperatorSetup, ReadOnlyContext, Setup, StatefulCoProcess, StatefulProcess, Timer, TimerKind, UnkeyedContext,
};
pub use crate::state::{
    AggregateFunction, AggregatingState, BroadcastState, LargeList, LargeMap, ListState, MapState, ReducingState, Ttl,
    UnionState, ValueState,
};
pub use crate::stream::{Process, Watermarks};
pub use crate::value::{FieldRef, Owned, Value};
pub use crate::values::{
    Bytes, Date, Decimal, LocalTimestamp, LocalTimestampMicros, LocalTimestampNanos, LocalTimestampSeconds, Time,
    Timestamp, TimestampMicros, TimestampNanos, TimestampSeconds,
};
pub use crate::window::{
    Aggregate, ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountEvictor, CountTrigger, DeltaEvictor,
    DeltaTrigger, EventTimeTrigger, Evictor, EvictorContext, GlobalWindows, ProcessingTimeTrigger,
    ProcessingTimeoutTrigger, PurgingTrigger, Session, Sliding, TimeEvictor, Trigger, TriggerContext, TriggerResult,
    Tumbling, Window, WindowAggregatingState, WindowAssigner, WindowContext, WindowListState, WindowMapState,
    WindowProcess, WindowReducingState, WindowSetup, WindowState, WindowedStream,
};
pub use crate::{
    AfterMatch, Counted, Flow, OpenContext, Out, OutputTag, Parameters, Pattern, Record, Result, Stream, Windowed,
    debug, error, info, trace, warn,
};
