//! Under which name an operator's state is found again in a savepoint.
//!
//! An operator with a uid is found by it, whatever else changes. One without is found by where it is in the graph,
//! as in Flink: its identity is a hash over what it is (source, sink or watermarks and the connector's kind; a
//! function's construct), over the identities of its inputs with the input and the output that each edge joins,
//! and over a number among those that are the same in all of that.
//!
//! **It stays** when operators are renamed, parallelism, partitioning or max parallelism change, a connector gets
//! other options, a watermark strategy other parameters, states are added or functions' code changes; and when
//! something else is added to the graph, in any order.\
//! **It changes** when an operator is inserted, removed or replaced by another construct anywhere before it, an
//! input is added to it or to one before it, a side output is renamed on the way to it, or one just like it is
//! declared earlier: two maps behind the same operator are told apart by their order. A uid stops this: what is
//! behind an operator with a uid depends on the uid alone.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_128;

use super::{Graph, OperatorIndex, OperatorKind};

/// How derived identities begin; uids may not.
pub const AUTO_PREFIX: &str = "auto-";

/// First bytes of everything that is hashed: a change of the encoding below changes them.
const VERSION: &[u8] = b"millrace operator 1";

/// Where rows come from: input, identity of the sender, its side output.
type Inbound<'a> = (u32, &'a str, &'a str);

/// The identity of each operator, in the order of [`Graph::operators`]. All differ.
///
/// The graph is one that was planned: uids are unique and not derived ones, and there is no cycle.
pub fn operator_ids(graph: &Graph) -> Vec<String> {
    let senders = senders(graph);
    let mut waits_for: Vec<BTreeSet<usize>> = senders
        .iter()
        .map(|senders| senders.iter().map(|sender| sender.from).collect())
        .collect();
    let mut readers = vec![Vec::new(); graph.operators.len()];
    for (operator, senders) in waits_for.iter().enumerate() {
        senders.iter().for_each(|sender| readers[*sender].push(operator));
    }
    let mut ready: BTreeSet<usize> = (0..graph.operators.len())
        .filter(|at| waits_for[*at].is_empty())
        .collect();
    let mut ids: Vec<Option<String>> = vec![None; graph.operators.len()];
    let mut equals = BTreeMap::new();
    while let Some(operator) = ready.pop_first() {
        let inbound = senders[operator].iter().map(|sender| {
            let id = ids[sender.from].as_deref().expect("senders come before receivers");
            (sender.input, id, sender.side)
        });
        let id = identity(graph, operator, inbound.collect(), &mut equals);
        ids[operator] = Some(id);
        for &reader in &readers[operator] {
            waits_for[reader].remove(&operator);
            if waits_for[reader].is_empty() {
                ready.insert(reader);
            }
        }
    }
    let ids: Vec<String> = ids
        .into_iter()
        .map(|id| id.expect("a planned graph has no cycle"))
        .collect();
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "two operators have the same identity");
    ids
}

fn identity<'a>(
    graph: &Graph,
    operator: usize,
    mut inbound: Vec<Inbound<'a>>,
    equals: &mut BTreeMap<u128, u32>,
) -> String {
    let operator = &graph.operators[operator];
    let mut text = VERSION.to_vec();
    let (kind, what) = match &operator.kind {
        OperatorKind::Source { connector, .. } => ("source", connector.kind.as_str()),
        OperatorKind::Sink { connector } => ("sink", connector.kind.as_str()),
        OperatorKind::Watermarks(_) => ("watermarks", ""),
        OperatorKind::Requests(_) => ("requests", ""),
        OperatorKind::Lookup(lookup) => ("lookup", lookup.connector.kind.as_str()),
        OperatorKind::Function { construct, .. } => ("function", construct.as_str()),
    };
    append(&mut text, kind);
    append(&mut text, what);
    inbound.sort_unstable(); // the edges of a union may be declared in any order
    for (input, id, side) in inbound {
        text.extend(input.to_le_bytes());
        append(&mut text, id);
        append(&mut text, side);
    }
    // Equal ones wait for the same senders and so come in the order in which they are declared.
    let number = equals.entry(xxh3_128(&text)).or_insert(0);
    text.extend(number.to_le_bytes());
    *number += 1;
    match &operator.uid {
        Some(uid) => uid.clone(),
        None => format!("{AUTO_PREFIX}{:032x}", xxh3_128(&text)),
    }
}

fn append(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// An operator that feeds another.
struct Sender<'a> {
    from: usize,
    input: u32,
    /// Name of the side output; empty for the main one.
    side: &'a str,
}

/// By edges into a chain's head or a native operator; within a chain each function feeds the next.
fn senders(graph: &Graph) -> Vec<Vec<Sender<'_>>> {
    let mut senders: Vec<Vec<Sender<'_>>> = graph.operators.iter().map(|_| Vec::new()).collect();
    for edge in &graph.edges {
        senders[edge.to_operator.0 as usize].push(Sender {
            from: edge.from_operator.0 as usize,
            input: edge.to_input,
            side: side(graph, edge.from_operator, edge.from_port),
        });
    }
    for chain in &graph.chains {
        for pair in chain.operators.windows(2) {
            let from = pair[0].0 as usize;
            let sender = Sender {
                from,
                input: 0,
                side: "",
            };
            senders[pair[1].0 as usize].push(sender);
        }
    }
    senders
}

fn side(graph: &Graph, operator: OperatorIndex, port: u32) -> &str {
    match &graph.operators[operator.0 as usize].kind {
        OperatorKind::Function { chain, .. } => {
            let port = graph.chains[chain.0 as usize].ports.get(port as usize);
            port.and_then(|port| port.side.as_deref()).unwrap_or_default()
        }
        OperatorKind::Source { .. }
        | OperatorKind::Sink { .. }
        | OperatorKind::Watermarks(_)
        | OperatorKind::Requests(_)
        | OperatorKind::Lookup(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;

    use super::super::*;
    use super::*;

    /// Operators as `source:kind`, `sink:kind`, `watermarks` or a construct, each function a chain of its own.
    fn graph(operators: &[&str], edges: &[(u32, u32, u32)]) -> Graph {
        let schema = Arc::new(Schema::empty());
        let connector = |kind: &str| ConnectorConfig {
            kind: kind.to_owned(),
            options: Vec::new(),
        };
        let mut graph = Graph {
            name: "test".to_owned(),
            operators: Vec::new(),
            edges: Vec::new(),
            chains: Vec::new(),
            max_parallelism: 0,
        };
        for (index, what) in operators.iter().enumerate() {
            let kind = match what.split_once(':') {
                Some(("source", kind)) => OperatorKind::Source {
                    connector: connector(kind),
                    schema: schema.clone(),
                    hints: Vec::new(),
                    on_reject: RejectPolicy::Fail,
                },
                Some((_, kind)) => OperatorKind::Sink {
                    connector: connector(kind),
                },
                None => {
                    graph.chains.push(Chain {
                        operators: vec![OperatorIndex(index as u32)],
                        inputs: vec![schema.clone()],
                        input_hints: Vec::new(),
                        head: Head::Stateless,
                        ports: vec![port(index as u32, None), port(index as u32, Some("late"))],
                    });
                    OperatorKind::Function {
                        construct: (*what).to_owned(),
                        chain: ChainIndex(graph.chains.len() as u32 - 1),
                        on_reject: RejectPolicy::Fail,
                    }
                }
            };
            graph.operators.push(Operator {
                name: format!("{what} {index}"),
                uid: None,
                kind,
                parallelism: None,
                slot_sharing_group: None,
            });
        }
        graph.edges = edges.iter().map(|(from, to, input)| edge(*from, *to, *input)).collect();
        graph
    }

    fn port(operator: u32, side: Option<&str>) -> Port {
        Port {
            operator: OperatorIndex(operator),
            side: side.map(str::to_owned),
            schema: Arc::new(Schema::empty()),
            hints: Vec::new(),
            computes_time: false,
            computed_key: None,
        }
    }

    fn edge(from: u32, to: u32, input: u32) -> Edge {
        Edge {
            from_operator: OperatorIndex(from),
            from_port: 0,
            to_operator: OperatorIndex(to),
            to_input: input,
            partition: Partition::Forward,
        }
    }

    fn pipeline() -> Graph {
        graph(
            &["source:files", "map", "process", "sink:files"],
            &[(0, 1, 0), (1, 2, 0), (2, 3, 0)],
        )
    }

    /// Part of the savepoint format: a change loses the state of every operator without a uid.
    #[test]
    fn vectors() {
        let expect = [
            "auto-9958d442640a4f4b3564302ec3d7b3a3",
            "auto-fd9ba0bfe4350234be965d8afb227d5e",
            "auto-0da4a43d26189de8ee5191cd8df28b51",
            "auto-4e690e8258ea98b060b49b5f66aed939",
        ];
        assert_eq!(operator_ids(&pipeline()), expect);
    }

    #[test]
    fn what_does_not_matter() {
        let expect = operator_ids(&pipeline());
        let mut graph = pipeline();
        graph.name = "other".to_owned();
        graph.max_parallelism = 7;
        for operator in &mut graph.operators {
            operator.name = "renamed".to_owned();
            operator.parallelism = Some(3);
            if let OperatorKind::Source { connector, .. } | OperatorKind::Sink { connector } = &mut operator.kind {
                connector.options.push(("path".to_owned(), "x".to_owned()));
            }
        }
        graph
            .edges
            .iter_mut()
            .for_each(|edge| edge.partition = Partition::Rebalance);
        graph.edges.reverse();
        graph.chains[0].ports.insert(1, port(1, Some("more")));
        assert_eq!(operator_ids(&graph), expect);
    }

    #[test]
    fn what_matters() {
        let before = operator_ids(&pipeline());
        let check = |changed: &[usize], change: fn(&mut Graph)| {
            let mut graph = pipeline();
            change(&mut graph);
            let after = operator_ids(&graph);
            let differ: Vec<usize> = (0..4).filter(|at| before[*at] != after[*at]).collect();
            assert_eq!(differ, changed);
        };
        check(&[0, 1, 2, 3], |graph| {
            let OperatorKind::Source { connector, .. } = &mut graph.operators[0].kind else {
                unreachable!()
            };
            connector.kind = "stdin".to_owned();
        });
        check(&[2, 3], |graph| {
            let OperatorKind::Function { construct, .. } = &mut graph.operators[2].kind else {
                unreachable!()
            };
            *construct = "filter".to_owned();
        });
        check(&[3], |graph| graph.edges[2].from_port = 1);
        check(&[2, 3], |graph| graph.edges.push(edge(0, 2, 1)));
        check(&[2, 3], |graph| graph.edges[1].to_input = 1);
        check(&[1, 2, 3], |graph| graph.operators[1].uid = Some("mine".to_owned()));
    }

    /// Functions in one chain or in several are the same functions.
    #[test]
    fn fusing_does_not_matter() {
        let mut fused = pipeline();
        fused.chains[0].operators.push(OperatorIndex(2));
        fused.edges.remove(1);
        fused.chains[0].ports[0].operator = OperatorIndex(2);
        assert_eq!(operator_ids(&fused), operator_ids(&pipeline()));
    }

    #[test]
    fn a_uid_stands_for_all_that_is_before_it() {
        let mut graph = pipeline();
        graph.operators[1].uid = Some("mine".to_owned());
        let before = operator_ids(&graph);
        assert_eq!(before[1], "mine");
        let OperatorKind::Source { connector, .. } = &mut graph.operators[0].kind else {
            unreachable!()
        };
        connector.kind = "stdin".to_owned();
        let after = operator_ids(&graph);
        assert_ne!(after[0], before[0]);
        assert_eq!(after[1..], before[1..]);
    }

    #[test]
    fn equals_are_numbered_and_others_do_not_matter() {
        let two = graph(
            &["source:files", "source:files", "map", "map", "sink:stdout"],
            &[(0, 2, 0), (0, 3, 0), (1, 4, 0), (2, 4, 0), (3, 4, 0)],
        );
        let ids = operator_ids(&two);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 5);
        // Something of another kind between them, declared first.
        let more = graph(
            &[
                "source:stdin",
                "source:files",
                "source:files",
                "map",
                "filter",
                "map",
                "sink:stdout",
            ],
            &[(1, 3, 0), (1, 5, 0), (0, 4, 0), (5, 6, 0), (3, 6, 0), (2, 6, 0)],
        );
        let others = operator_ids(&more);
        assert_eq!(
            [1, 2, 3, 5, 6].map(|at| &others[at]),
            [0, 1, 2, 3, 4].map(|at| &ids[at])
        );
    }
}
