//! Drawings of a logical graph: [`text`], [`mermaid`], [`dot`], [`svg`], and [`json`] for programs.
//!
//! All of them draw a [`View`]: nodes with a kind and a line of detail, links with a label, chains as groups. It is
//! made here, once, from the graph that a pipeline declares; the links inside a chain, which the graph does not
//! list, are added.

pub mod dot;
pub mod json;
mod labels;
pub mod mermaid;
pub mod svg;
pub mod text;

pub use labels::schema_text;

use millrace_core::graph::{Chain, ChainIndex, Graph, OperatorIndex, OperatorKind};
use millrace_core::plan::{DEFAULT_SLOT_SHARING_GROUP, slot_sharing_groups};

use crate::output::{Printer, printable_line};

/// A graph, ready to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Name of the dataflow.
    pub name: String,
    /// Its operators, in the graph's order.
    pub nodes: Vec<Node>,
    /// Links by index of node, in the graph's order, those inside chains first.
    pub links: Vec<Link>,
    /// Number of chains; `Node::chain` is below it.
    pub chains: usize,
}

/// What a node looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rows come from outside.
    Source,
    /// Rows go outside.
    Sink,
    /// Event time is assigned.
    Watermarks,
    /// A function in the guest.
    Function,
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it does, in some words, and its slot-sharing group if there are several.
    pub detail: String,
    /// What it looks like.
    pub kind: Kind,
    /// Chain that it is fused into.
    pub chain: Option<usize>,
}

/// Rows flow from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Sending node.
    pub from: usize,
    /// Receiving node.
    pub to: usize,
    /// Side output and partition; empty for plain forwarding.
    pub label: String,
    /// Inside a chain: nothing is encoded.
    pub fused: bool,
}

impl View {
    /// The view of a graph. Indices that point nowhere (the planner refuses such a graph) are left out.
    pub fn new(graph: &Graph) -> Self {
        let groups = slot_sharing_groups(graph);
        let divided = groups.iter().any(|group| *group != DEFAULT_SLOT_SHARING_GROUP);
        let nodes = groups.iter().enumerate().map(|(index, group)| {
            let mut node = node(graph, index);
            if divided {
                node.detail += &printable_line(&format!(", group {group}"));
            }
            node
        });
        let nodes: Vec<Node> = nodes.collect();
        let mut links = Vec::new();
        for chain in &graph.chains {
            links.extend(chain.operators.windows(2).map(|pair| Link {
                from: pair[0].0 as usize,
                to: pair[1].0 as usize,
                label: String::new(),
                fused: true,
            }));
        }
        links.extend(graph.edges.iter().map(|edge| Link {
            from: edge.from_operator.0 as usize,
            to: edge.to_operator.0 as usize,
            label: printable_line(&labels::edge(graph, edge)),
            fused: false,
        }));
        links.retain(|link| link.from < nodes.len() && link.to < nodes.len());
        View {
            name: printable_line(&graph.name),
            nodes,
            links,
            chains: graph.chains.len(),
        }
    }

    /// Names of nodes whose rows nobody takes.
    pub fn idle_ends(&self) -> Vec<&str> {
        let takes_none = |node: usize| !self.links.iter().any(|link| link.from == node);
        let ends = (0..self.nodes.len()).filter(|&node| self.nodes[node].kind != Kind::Sink && takes_none(node));
        ends.map(|node| self.nodes[node].name.as_str()).collect()
    }

    /// Says on stderr whose rows nobody takes.
    pub fn warn(&self, printer: &Printer) {
        for name in self.idle_ends() {
            printer.note(&format!("warning: nobody takes the rows of `{name}`"));
        }
    }

    /// Nodes of a chain that are drawn as a group: at least two.
    fn group(&self, chain: usize) -> Option<Vec<usize>> {
        let members: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].chain == Some(chain))
            .collect();
        (members.len() > 1).then_some(members)
    }

    /// Layer of each node: one more than that of its furthest predecessor. A cycle, which is no valid graph, is cut
    /// where it is entered first.
    fn layers(&self) -> Vec<usize> {
        let mut layers = vec![0; self.nodes.len()];
        // A path without a cycle has fewer links than there are nodes.
        for _ in 0..self.nodes.len() {
            let mut changed = false;
            for link in &self.links {
                let layer = layers[link.from] + 1;
                if layer > layers[link.to] && layer < self.nodes.len() {
                    layers[link.to] = layer;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        layers
    }
}

fn node(graph: &Graph, index: usize) -> Node {
    let operator = &graph.operators[index];
    let (kind, chain) = match &operator.kind {
        OperatorKind::Source { .. } => (Kind::Source, None),
        OperatorKind::Sink { .. } => (Kind::Sink, None),
        OperatorKind::Watermarks(_) => (Kind::Watermarks, None),
        OperatorKind::Requests(_) | OperatorKind::Lookup(_) => (Kind::Function, None),
        OperatorKind::Function { chain, .. } => (Kind::Function, Some(chain.0 as usize)),
    };
    Node {
        name: printable_line(&operator.name),
        detail: printable_line(&labels::operator(graph, OperatorIndex(index as u32))),
        kind,
        chain: chain.filter(|chain| *chain < graph.chains.len()),
    }
}

/// The chain that an operator is fused into.
fn chain_of(graph: &Graph, operator: OperatorIndex) -> Option<(ChainIndex, &Chain)> {
    match &graph.operators.get(operator.0 as usize)?.kind {
        OperatorKind::Function { chain, .. } => Some((*chain, graph.chains.get(chain.0 as usize)?)),
        OperatorKind::Source { .. }
        | OperatorKind::Sink { .. }
        | OperatorKind::Watermarks(_)
        | OperatorKind::Requests(_)
        | OperatorKind::Lookup(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
