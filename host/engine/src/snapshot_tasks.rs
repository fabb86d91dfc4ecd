//! Which parts of a job hand over snapshots, and by what identity checkpoints know them.

use millrace_core::graph::{Graph, OperatorKind};
use millrace_core::plan::{Plan, TaskKind};
use millrace_core::schema::KeyedSchema;

/// Part of the job that is snapshotted under one identity.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotTask {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) parallelism: u32,
    /// Kind of its connector, if it is a source or sink.
    pub(crate) connector: Option<String>,
    /// What it keeps by key.
    pub(crate) keyed: Option<KeyedSchema>,
    /// Number of its first subtask among all.
    pub(crate) first: u32,
}

/// The tasks of a plan with the identity that they have in checkpoints: that of their first operator.
pub(crate) fn snapshot_tasks(plan: &Plan, graph: &Graph, ids: &[String]) -> Vec<SnapshotTask> {
    let mut first = 0;
    let tasks = plan.tasks.iter().map(|task| {
        let operator = task.kind.first_operator(graph);
        let connector = match &graph.operators[operator.0 as usize].kind {
            OperatorKind::Source { connector, .. } | OperatorKind::Sink { connector } => Some(connector.kind.clone()),
            OperatorKind::Watermarks(_)
            | OperatorKind::Requests(_)
            | OperatorKind::Lookup(_)
            | OperatorKind::Function { .. } => None,
        };
        let keyed = match &task.kind {
            TaskKind::Chain { chain, .. } => KeyedSchema::of_head(&graph.chains[chain.0 as usize].head),
            TaskKind::Requests { .. } => match &graph.operators[operator.0 as usize].kind {
                OperatorKind::Requests(requests) => Some(requests.keyed_schema()),
                OperatorKind::Source { .. }
                | OperatorKind::Sink { .. }
                | OperatorKind::Watermarks(_)
                | OperatorKind::Lookup(_)
                | OperatorKind::Function { .. } => None,
            },
            TaskKind::Source { .. } | TaskKind::Watermarks { .. } | TaskKind::Lookup { .. } | TaskKind::Sink { .. } => {
                None
            }
        };
        let task = SnapshotTask {
            id: ids[operator.0 as usize].clone(),
            name: task.name.clone(),
            parallelism: task.parallelism,
            connector,
            keyed,
            first,
        };
        first += task.parallelism;
        task
    });
    tasks.collect()
}
