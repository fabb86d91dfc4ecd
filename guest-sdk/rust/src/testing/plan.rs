//! From a graph to what runs: tasks, how many subtasks each has, and the edges between them.
//!
//! A chain is a task, and so is every source, watermark operator and sink. Operators come in the order in which they
//! were declared, and nothing can take rows of what is declared later: so feeders come first.

use super::source::GIVEN;
use crate::bindings::dataflow::{Graph, Head, OperatorKind, Partition};

/// A chain or a native operator.
#[derive(Debug)]
pub(crate) struct Task {
    /// Its first operator.
    pub(crate) operator: u32,
    pub(crate) kind: Kind,
    pub(crate) parallelism: u32,
    /// Its rows have event time.
    pub(crate) has_time: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Source,
    /// The watermarks of a test's own source, which are given.
    Given,
    Watermarks,
    Requests,
    Lookup,
    Chain(u32),
    Sink,
}

/// Rows of a task's port to an input of another.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) port: u32,
    pub(crate) to: usize,
    pub(crate) input: u32,
    pub(crate) partition: Partition,
    /// The receiver's channel from the sender's first subtask; those of the others follow.
    pub(crate) first_channel: usize,
}

impl Edge {
    /// Whether a subtask sends to this one of the receivers: over a forward edge to that of its number alone.
    pub(crate) fn connects(&self, sender: usize, receiver: usize) -> bool {
        !matches!(self.partition, Partition::Forward) || sender == receiver
    }
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tasks: Vec<Task>,
    pub(crate) edges: Vec<Edge>,
}

impl Plan {
    pub(crate) fn new(graph: &Graph, parallelism: u32) -> Plan {
        let tasks: Vec<Task> = (0..graph.operators.len() as u32)
            .filter_map(|operator| task(graph, operator, parallelism))
            .collect();
        let mut plan = Plan {
            tasks,
            edges: Vec::new(),
        };
        let mut channels = vec![0; plan.tasks.len()];
        for edge in &graph.edges {
            let (from, to) = (
                plan.task_of(graph, edge.from_operator),
                plan.task_of(graph, edge.to_operator),
            );
            let [senders, receivers] = [from, to].map(|task| plan.tasks[task].parallelism);
            let is_same = senders == receivers;
            if matches!(edge.partition, Partition::SameSubtask) {
                let name = |operator: u32| &graph.operators[operator as usize].name;
                assert!(
                    is_same,
                    "`forward` from `{}`, of parallelism {senders}, to `{}`, of parallelism {receivers}: rows stay in their \
                     subtask only where both have the same parallelism",
                    name(edge.from_operator),
                    name(edge.to_operator)
                );
            }
            let partition = match &edge.partition {
                Partition::Forward if !is_same => Partition::Rebalance,
                partition => partition.clone(),
            };
            plan.edges.push(Edge {
                from,
                port: edge.from_port,
                to,
                input: edge.to_input,
                partition,
                first_channel: channels[to],
            });
            channels[to] += plan.tasks[from].parallelism as usize;
        }
        plan.find_times();
        plan
    }

    /// Event time is there where it is on all ways.
    fn find_times(&mut self) {
        for task in 0..self.tasks.len() {
            let mut feeders = self.edges.iter().filter(|edge| edge.to == task).peekable();
            self.tasks[task].has_time = match self.tasks[task].kind {
                Kind::Source => false,
                Kind::Given | Kind::Watermarks => true,
                Kind::Requests | Kind::Lookup | Kind::Chain(_) | Kind::Sink => {
                    feeders.peek().is_some() && feeders.all(|edge| self.tasks[edge.from].has_time)
                }
            };
        }
    }

    /// The task that has an operator.
    pub(crate) fn task_of(&self, graph: &Graph, operator: u32) -> usize {
        let first = match &graph.operators[operator as usize].kind {
            OperatorKind::Function(function) => graph.chains[function.chain as usize].operators[0],
            OperatorKind::Source(_)
            | OperatorKind::Sink(_)
            | OperatorKind::Watermarks(_)
            | OperatorKind::Requests(_)
            | OperatorKind::Lookup(_) => operator,
        };
        let found = self.tasks.iter().position(|task| task.operator == first);
        found.expect("every operator is part of a task")
    }

    /// Channels of a task's subtasks.
    pub(crate) fn channels(&self, task: usize) -> usize {
        let edges = self.edges.iter().filter(|edge| edge.to == task);
        edges.map(|edge| self.tasks[edge.from].parallelism as usize).sum()
    }

    /// Channels of a subtask that nobody sends over: its forward edges have one sender.
    pub(crate) fn missing_channels(&self, task: usize, subtask: usize) -> Vec<usize> {
        let edges = self.edges.iter().filter(|edge| edge.to == task);
        let missing = edges.flat_map(|edge| {
            let senders = 0..self.tasks[edge.from].parallelism as usize;
            let missing = senders.filter(|&sender| !edge.connects(sender, subtask));
            missing.map(|sender| edge.first_channel + sender)
        });
        missing.collect()
    }

    /// The edge that a channel of a task is of.
    pub(crate) fn edge_of(&self, task: usize, channel: usize) -> &Edge {
        let is_of = |edge: &&Edge| {
            let channels = edge.first_channel..edge.first_channel + self.tasks[edge.from].parallelism as usize;
            edge.to == task && channels.contains(&channel)
        };
        let found = self.edges.iter().find(is_of);
        found.expect("every channel is of an edge")
    }
}

fn task(graph: &Graph, operator: u32, parallelism: u32) -> Option<Task> {
    let declared = &graph.operators[operator as usize];
    let kind = match &declared.kind {
        OperatorKind::Source(_) => Kind::Source,
        OperatorKind::Sink(_) => Kind::Sink,
        OperatorKind::Watermarks(_) if is_given(graph, operator) => Kind::Given,
        OperatorKind::Watermarks(_) => Kind::Watermarks,
        OperatorKind::Requests(_) => Kind::Requests,
        OperatorKind::Lookup(_) => Kind::Lookup,
        OperatorKind::Function(function) => {
            let is_first = graph.chains[function.chain as usize].operators[0] == operator;
            if !is_first {
                return None;
            }
            Kind::Chain(function.chain)
        }
    };
    Some(Task {
        operator,
        kind,
        parallelism: declared.parallelism.unwrap_or(parallelism),
        has_time: false,
    })
}

/// Whether these are the watermarks of a test's own source.
fn is_given(graph: &Graph, operator: u32) -> bool {
    let mut feeders = graph.edges.iter().filter(|edge| edge.to_operator == operator);
    feeders.any(|edge| {
        let from = &graph.operators[edge.from_operator as usize];
        matches!(&from.kind, OperatorKind::Source(source) if source.connector.kind == GIVEN)
    })
}

/// Whether a chain keeps windows of the host.
pub(crate) fn is_window(head: &Head) -> bool {
    matches!(head, Head::Window(_))
}
