//! From the logical graph to what runs: tasks, their parallelism, and the exchanges between them.
//!
//! Chaining is the guest's (a chain arrives fused); the planner checks the graph, turns each chain and each
//! native operator into one [`Task`], merges a watermark strategy into the source it directly follows (so
//! that watermarks are made per split), and decides where blocks carry event time and in which slot each subtask runs. It
//! is a pure function: the same graph and parallelism give the same plan.

mod groups;
mod placement;
mod time;
mod validate;
mod windows;

use crate::error::{Error, Result};
use crate::graph::{
    ChainIndex, Edge, EventTime, Graph, OperatorIndex, OperatorKind, Partition, WatermarkSource, WatermarkStrategy,
};
use crate::key::MAX_PARALLELISM_LIMIT;

pub use groups::slot_sharing_groups;
pub use placement::{DEFAULT_SLOT_SHARING_GROUP, Placement, SlotIndex, SlotSharingGroup};

/// Key groups of a job that does not say otherwise.
pub const MAX_PARALLELISM_DEFAULT: u32 = 128;

/// Index of a task in [`Plan::tasks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskIndex(pub usize);

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskKind {
    /// Reads splits; with a strategy it makes watermarks per split.
    Source {
        /// The source's operator.
        operator: OperatorIndex,
        /// Merged watermark strategy and the operator that declared it.
        watermarks: Option<(OperatorIndex, WatermarkStrategy)>,
    },
    /// Assigns event time and makes watermarks.
    Watermarks {
        /// The declaring operator.
        operator: OperatorIndex,
        /// How.
        strategy: WatermarkStrategy,
    },
    /// Makes HTTP requests for rows.
    Requests {
        /// The declaring operator.
        operator: OperatorIndex,
    },
    /// Looks rows up in a table.
    Lookup {
        /// The declaring operator.
        operator: OperatorIndex,
    },
    /// Runs a chain of the guest.
    Chain {
        /// Which.
        chain: ChainIndex,
        /// Input blocks carry event time into the guest.
        time_in: bool,
        /// Output blocks carry event time out of the guest.
        time_out: bool,
    },
    /// Writes rows.
    Sink {
        /// The sink's operator.
        operator: OperatorIndex,
    },
}

impl TaskKind {
    /// The first of its operators, by which checkpoints know the task.
    pub fn first_operator(&self, graph: &Graph) -> OperatorIndex {
        match self {
            TaskKind::Source { operator, .. }
            | TaskKind::Watermarks { operator, .. }
            | TaskKind::Requests { operator }
            | TaskKind::Lookup { operator }
            | TaskKind::Sink { operator } => *operator,
            TaskKind::Chain { chain, .. } => graph.chains[chain.0 as usize].operators[0],
        }
    }
}

/// A chain or native operator with its parallelism.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Name for people: the operators' names.
    pub name: String,
    /// What it does.
    pub kind: TaskKind,
    /// Number of subtasks.
    pub parallelism: u32,
}

/// All channels of one edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Sending task.
    pub from: TaskIndex,
    /// Its output port.
    pub from_port: u32,
    /// Receiving task.
    pub to: TaskIndex,
    /// Its input.
    pub to_input: u32,
    /// Which subtask gets a row. Never `Forward` between tasks of different parallelism, and never `SameSubtask`, which is
    /// `Forward` once it was checked.
    pub partition: Partition,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Tasks in an order in which every task comes after those that feed it.
    pub tasks: Vec<Task>,
    /// Edges between tasks.
    pub exchanges: Vec<Exchange>,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Which subtask runs in which slot.
    pub placement: Placement,
}

/// Checks a graph and plans it for a parallelism.
pub fn plan(graph: &Graph, parallelism: u32) -> Result<Plan> {
    let plan = planned(graph, parallelism, &|_| None)?;
    check_same_subtask(&plan)?;
    Ok(plan)
}

/// The same with the parallelism of some tasks given, by their first operator: whatever the graph says of them, and of
/// rows that are to stay in their subtask.
pub fn plan_as(graph: &Graph, parallelism: u32, given: impl Fn(OperatorIndex) -> Option<u32>) -> Result<Plan> {
    let mut plan = planned(graph, parallelism, &given)?;
    for exchange in &mut plan.exchanges {
        if exchange.partition == Partition::SameSubtask {
            exchange.partition = Partition::Rebalance;
        }
    }
    Ok(plan)
}

/// A plan whose exchanges are `SameSubtask` where that cannot be.
fn planned(graph: &Graph, parallelism: u32, given: Given<'_>) -> Result<Plan> {
    validate::check(graph)?;
    let max_parallelism = max_parallelism(graph)?;
    let groups = slot_sharing_groups(graph);
    let nodes = nodes(graph, (parallelism, max_parallelism), &groups, given)?;
    let (tasks, task_of) = order(graph, nodes)?;
    let in_groups = tasks
        .iter()
        .map(|task| (groups[task.kind.first_operator(graph).0 as usize], task.parallelism));
    let mut plan = Plan {
        placement: Placement::new(in_groups),
        tasks,
        exchanges: Vec::new(),
        max_parallelism,
    };
    plan.exchanges = exchanges(graph, &plan.tasks, &task_of);
    check_alignment(graph, &plan)?;
    time::decide(graph, &mut plan)?;
    Ok(plan)
}

fn max_parallelism(graph: &Graph) -> Result<u32> {
    match graph.max_parallelism {
        0 => Ok(MAX_PARALLELISM_DEFAULT),
        value if value <= MAX_PARALLELISM_LIMIT => Ok(value),
        value => {
            let message = format!("max parallelism {value} is over the limit of {MAX_PARALLELISM_LIMIT}");
            Err(Error::user("GR0012", message))
        }
    }
}

/// Parallelism that is given for a task, by its first operator.
type Given<'a> = &'a dyn Fn(OperatorIndex) -> Option<u32>;

/// A task to be, with the operator whose inputs and outputs are the task's.
struct Node {
    task: Task,
    operators: Vec<OperatorIndex>,
}

fn nodes(
    graph: &Graph,
    (parallelism, max_parallelism): (u32, u32),
    groups: &[&str],
    given: Given<'_>,
) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    let merged = merged_watermarks(graph, groups);
    for index in (0..graph.operators.len() as u32).map(OperatorIndex) {
        let Some((kind, operators, name)) = task_from(graph, &merged, index) else {
            continue;
        };
        let asked = operators
            .iter()
            .find_map(|member| graph.operators[member.0 as usize].parallelism);
        let parallelism = given(operators[0]).or(asked).unwrap_or(parallelism);
        if parallelism == 0 || parallelism > max_parallelism {
            let message =
                format!("operator `{name}` has parallelism {parallelism}; 1 to {max_parallelism} are possible");
            return Err(Error::user("GR0012", message));
        }
        nodes.push(Node {
            task: Task {
                name,
                kind,
                parallelism,
            },
            operators,
        });
    }
    Ok(nodes)
}

/// Watermark operators that are made by the source that they follow: source, operator, strategy.
type Merged = (OperatorIndex, OperatorIndex, WatermarkStrategy);

/// The task that begins with an operator, its operators and its name; `None`: the operator is part of another one's.
fn task_from(graph: &Graph, merged: &[Merged], index: OperatorIndex) -> Option<(TaskKind, Vec<OperatorIndex>, String)> {
    let operator = &graph.operators[index.0 as usize];
    let native = |kind: TaskKind| Some((kind, vec![index], operator.name.clone()));
    match &operator.kind {
        OperatorKind::Source { .. } => {
            let mut operators = vec![index];
            let watermarks = merged.iter().find(|(source, _, _)| *source == index);
            let watermarks = watermarks.map(|(_, operator, strategy)| {
                operators.push(*operator);
                (*operator, strategy.clone())
            });
            let kind = TaskKind::Source {
                operator: index,
                watermarks,
            };
            Some((kind, operators, operator.name.clone()))
        }
        OperatorKind::Watermarks(_) if merged.iter().any(|(_, merged, _)| *merged == index) => None,
        OperatorKind::Watermarks(strategy) => native(TaskKind::Watermarks {
            operator: index,
            strategy: strategy.clone(),
        }),
        OperatorKind::Sink { .. } => native(TaskKind::Sink { operator: index }),
        OperatorKind::Requests(_) => native(TaskKind::Requests { operator: index }),
        OperatorKind::Lookup(_) => native(TaskKind::Lookup { operator: index }),
        OperatorKind::Function { chain, .. } => {
            let members = &graph.chains[chain.0 as usize].operators;
            let name = |member: &OperatorIndex| graph.operators[member.0 as usize].name.as_str();
            let names: Vec<&str> = members.iter().map(name).collect();
            let kind = TaskKind::Chain {
                chain: *chain,
                time_in: false,
                time_out: false,
            };
            (members[0] == index).then(|| (kind, members.clone(), names.join(" → ")))
        }
    }
}

/// Watermark operators that directly and alone follow a source, in its slots, and read a field.
fn merged_watermarks(graph: &Graph, groups: &[&str]) -> Vec<Merged> {
    let mut merged = Vec::new();
    for (index, operator) in graph.operators.iter().enumerate() {
        let index = OperatorIndex(index as u32);
        let OperatorKind::Watermarks(strategy) = &operator.kind else {
            continue;
        };
        let inbound: Vec<&Edge> = graph.edges.iter().filter(|edge| edge.to_operator == index).collect();
        let [edge] = inbound[..] else { continue };
        let source = &graph.operators[edge.from_operator.0 as usize];
        let alone = graph
            .edges
            .iter()
            .filter(|other| other.from_operator == edge.from_operator)
            .count()
            == 1;
        let same = operator.parallelism.is_none() || operator.parallelism == source.parallelism;
        let same = same && groups[index.0 as usize] == groups[edge.from_operator.0 as usize];
        let is_source = matches!(source.kind, OperatorKind::Source { .. });
        let forward = matches!(edge.partition, Partition::Forward | Partition::SameSubtask);
        if is_source && alone && same && forward && !is_computed(strategy) {
            merged.push((edge.from_operator, index, strategy.clone()));
        }
    }
    merged
}

/// Only sources can wait for each other.
fn check_alignment(graph: &Graph, plan: &Plan) -> Result<()> {
    for operator in &graph.operators {
        if let OperatorKind::Watermarks(WatermarkStrategy {
            source: WatermarkSource::Clock(_),
            alignment: Some(alignment),
            ..
        }) = &operator.kind
        {
            let (name, group) = (&operator.name, &alignment.group);
            let message = format!(
                "watermarks `{name}` are to be aligned in the group `{group}`, but they follow the clock, and are never ahead"
            );
            return Err(Error::user("GR0017", message));
        }
    }
    for task in &plan.tasks {
        let TaskKind::Watermarks { operator, strategy } = &task.kind else {
            continue;
        };
        if let Some(alignment) = &strategy.alignment {
            let name = &graph.operators[operator.0 as usize].name;
            let message = format!(
                "watermarks `{name}` are to be aligned in the group `{}`, but they do not follow a source directly and \
                 alone, by a field and in its slots",
                alignment.group
            );
            return Err(Error::user("GR0017", message));
        }
    }
    Ok(())
}

/// Refuses rows that are to stay in their subtask, and cannot.
fn check_same_subtask(plan: &Plan) -> Result<()> {
    let mut exchanges = plan.exchanges.iter();
    let Some(exchange) = exchanges.find(|exchange| exchange.partition == Partition::SameSubtask) else {
        return Ok(());
    };
    let [from, to] = [exchange.from, exchange.to].map(|task| &plan.tasks[task.0]);
    let message = format!(
        "`forward` from `{}`, of parallelism {}, to `{}`, of parallelism {}: rows stay in their subtask only where both have \
         the same parallelism",
        from.name, from.parallelism, to.name, to.parallelism
    );
    Err(Error::user("GR0023", message))
}

/// Whether the guest has a part in making the watermarks.
fn is_computed(strategy: &WatermarkStrategy) -> bool {
    strategy.time == EventTime::Computed || strategy.source == WatermarkSource::Computed
}

/// Sorts tasks so that feeders come first; a cycle is an error that names its operators.
fn order(graph: &Graph, nodes: Vec<Node>) -> Result<(Vec<Task>, Vec<TaskIndex>)> {
    let mut node_of = vec![0; graph.operators.len()];
    for (index, node) in nodes.iter().enumerate() {
        for operator in &node.operators {
            node_of[operator.0 as usize] = index;
        }
    }
    let links: Vec<(usize, usize)> = graph
        .edges
        .iter()
        .map(|edge| {
            (
                node_of[edge.from_operator.0 as usize],
                node_of[edge.to_operator.0 as usize],
            )
        })
        .filter(|(from, to)| from != to || !is_merged_source(&nodes[*from].task))
        .collect();
    let mut placed = vec![None; nodes.len()];
    let mut sorted = Vec::new();
    while sorted.len() < nodes.len() {
        let ready = (0..nodes.len()).find(|&node| {
            placed[node].is_none() && links.iter().all(|&(from, to)| to != node || placed[from].is_some())
        });
        let Some(ready) = ready else {
            let names = cycle(&placed, &links);
            let names = names.into_iter().map(|node| format!("`{}`", nodes[node].task.name));
            return Err(Error::user(
                "GR0003",
                format!("the graph has a cycle through {}", names.collect::<Vec<_>>().join(", ")),
            ));
        };
        placed[ready] = Some(TaskIndex(sorted.len()));
        sorted.push(ready);
    }
    let task_of = node_of
        .iter()
        .map(|&node| placed[node].expect("every node was placed"))
        .collect();
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let tasks = sorted
        .into_iter()
        .map(|node| nodes[node].take().expect("each node is sorted once").task);
    Ok((tasks.collect(), task_of))
}

/// Nodes in cycles: of those that cannot be placed, all that do not just come behind one, or between two.
fn cycle(placed: &[Option<TaskIndex>], links: &[(usize, usize)]) -> Vec<usize> {
    let reaches_itself = |start: usize| {
        let mut seen = vec![false; placed.len()];
        let mut next = vec![start];
        while let Some(node) = next.pop() {
            for &(_, to) in links.iter().filter(|(from, _)| *from == node) {
                if !std::mem::replace(&mut seen[to], true) {
                    next.push(to);
                }
            }
        }
        seen[start]
    };
    let unplaced = (0..placed.len()).filter(|&node| placed[node].is_none());
    unplaced.filter(|&node| reaches_itself(node)).collect()
}

fn is_merged_source(task: &Task) -> bool {
    matches!(
        task.kind,
        TaskKind::Source {
            watermarks: Some(_),
            ..
        }
    )
}

fn exchanges(graph: &Graph, tasks: &[Task], task_of: &[TaskIndex]) -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    for edge in &graph.edges {
        let from = task_of[edge.from_operator.0 as usize];
        let to = task_of[edge.to_operator.0 as usize];
        if from == to {
            continue; // a source and its merged watermarks
        }
        let same = tasks[from.0].parallelism == tasks[to.0].parallelism;
        let partition = match &edge.partition {
            Partition::Forward if !same => Partition::Rebalance,
            Partition::SameSubtask if same => Partition::Forward,
            partition => partition.clone(),
        };
        exchanges.push(Exchange {
            from,
            from_port: edge.from_port,
            to,
            to_input: edge.to_input,
            partition,
        });
    }
    exchanges
}

#[cfg(test)]
mod tests {
    use super::groups::tests::graph;
    use super::*;

    #[test]
    fn rows_that_are_to_stay_in_their_subtask_do_or_are_refused() {
        let mut graph = graph(
            &[("source", Some(2)), ("0", None), ("sink", Some(2))],
            &[(0, 1), (1, 2)],
        );
        graph.edges[0].partition = Partition::SameSubtask;
        let stays = plan(&graph, 2).expect("as many on both sides");
        assert_eq!(stays.exchanges[0].partition, Partition::Forward);
        let error = plan(&graph, 3).expect_err("more behind it");
        assert_eq!(error.code(), "GR0023");
        let message = error.to_string();
        let parts = ["`source-0`, of parallelism 2", "`0-1`, of parallelism 3"];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        // Rows of a run that was planned otherwise get through.
        let settling = plan_as(&graph, 2, |operator| (operator.0 == 1).then_some(3));
        let settling = settling.expect("whatever the graph says");
        assert_eq!(settling.exchanges[0].partition, Partition::Rebalance);
    }
}
