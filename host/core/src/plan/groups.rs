//! Whose slots an operator runs in.
//!
//! As in Flink: an operator is in the slot-sharing group that it names, or else in that of its inputs if they agree, or else
//! in `default`. The functions of a chain are in one group, for they are one piece.

use super::placement::DEFAULT_SLOT_SHARING_GROUP;
use crate::error::{Error, Result};
use crate::graph::{Graph, OperatorIndex, OperatorKind};

/// Longest name of a group, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The slot-sharing group of each operator, in the order of [`Graph::operators`]. Of a graph that the planner refuses,
/// for a cycle or for chains that are not there, those that cannot be known are in `default`.
pub fn slot_sharing_groups(graph: &Graph) -> Vec<&str> {
    let units: Vec<usize> = (0..graph.operators.len())
        .map(|operator| unit(graph, operator))
        .collect();
    let mut groups: Vec<Option<&str>> = vec![None; graph.operators.len()];
    for (operator, &unit) in graph.operators.iter().zip(&units) {
        groups[unit] = groups[unit].or(operator.slot_sharing_group.as_deref());
    }
    let mut feeders = vec![Vec::new(); graph.operators.len()];
    for edge in &graph.edges {
        let (from, to) = (edge.from_operator.0 as usize, edge.to_operator.0 as usize);
        if let (Some(&from), Some(&to)) = (units.get(from), units.get(to)) {
            feeders[to].push(from);
        }
    }
    // Operators mostly come behind those that feed them: then one round is enough.
    loop {
        let mut changed = false;
        for unit in 0..groups.len() {
            let known = feeders[unit].iter().map(|&feeder| groups[feeder]);
            if groups[unit].is_none()
                && let Some(inputs) = known.collect::<Option<Vec<&str>>>()
            {
                let agree = inputs.windows(2).all(|pair| pair[0] == pair[1]);
                let inherited = inputs.first().copied().filter(|_| agree);
                groups[unit] = Some(inherited.unwrap_or(DEFAULT_SLOT_SHARING_GROUP));
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let of_unit = |unit: usize| groups[unit].unwrap_or(DEFAULT_SLOT_SHARING_GROUP);
    units.into_iter().map(of_unit).collect()
}

/// The first operator of the chain that an operator is in, or the operator itself.
fn unit(graph: &Graph, operator: usize) -> usize {
    let OperatorKind::Function { chain, .. } = graph.operators[operator].kind else {
        return operator;
    };
    let members = graph
        .chains
        .get(chain.0 as usize)
        .map(|chain| chain.operators.as_slice());
    let first = members
        .and_then(|members| members.first())
        .map(|first| first.0 as usize);
    first.filter(|first| *first < graph.operators.len()).unwrap_or(operator)
}

/// Refuses names that are none, and chains in two groups.
pub(super) fn check(graph: &Graph) -> Result<()> {
    for operator in &graph.operators {
        let Some(group) = &operator.slot_sharing_group else {
            continue;
        };
        let wrong = if group.trim().is_empty() {
            "its name is blank".to_owned()
        } else if group.len() > NAME_BYTES_MAX {
            format!("its name has {} bytes, and {NAME_BYTES_MAX} are possible", group.len())
        } else if group.chars().any(char::is_control) {
            "its name has a control character".to_owned()
        } else {
            continue;
        };
        let (name, start) = (&operator.name, group.chars().take(40).collect::<String>());
        let message = format!("operator `{name}` cannot be in the slot-sharing group {start:?}: {wrong}");
        return Err(Error::user("GR0022", message));
    }
    for chain in &graph.chains {
        let said = |member: &OperatorIndex| {
            let operator = &graph.operators[member.0 as usize];
            Some((&operator.name, operator.slot_sharing_group.as_ref()?))
        };
        let mut said = chain.operators.iter().filter_map(said);
        let Some((first, group)) = said.next() else { continue };
        if let Some((second, other)) = said.find(|(_, other)| *other != group) {
            let message = format!(
                "operator `{first}` is in the slot-sharing group `{group}` and `{second}` in `{other}`, but they are fused \
                 into one chain"
            );
            return Err(Error::user("GR0022", message));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;

    use super::super::{SlotIndex, TaskIndex, TaskKind, plan};
    use super::*;
    use crate::graph::*;

    /// Operators as `source`, `sink`, `watermarks` or the chain of a function, with `@group` behind and a parallelism.
    pub(crate) fn graph(operators: &[(&str, Option<u32>)], edges: &[(u32, u32)]) -> Graph {
        let schema = Arc::new(Schema::empty());
        let connector = || ConnectorConfig {
            kind: "test".to_owned(),
            options: Vec::new(),
        };
        let mut graph = Graph {
            name: "test".to_owned(),
            operators: Vec::new(),
            edges: Vec::new(),
            chains: Vec::new(),
            max_parallelism: 0,
        };
        for (index, (what, parallelism)) in operators.iter().enumerate() {
            let index = OperatorIndex(index as u32);
            let (what, group) = what
                .split_once('@')
                .map_or((*what, None), |(what, group)| (what, Some(group)));
            let kind = match what {
                "source" => OperatorKind::Source {
                    connector: connector(),
                    schema: schema.clone(),
                    hints: Vec::new(),
                    on_reject: RejectPolicy::Fail,
                },
                "sink" => OperatorKind::Sink { connector: connector() },
                "watermarks" => OperatorKind::Watermarks(WatermarkStrategy {
                    time: EventTime::Ingestion,
                    source: WatermarkSource::Bounded(0),
                    idle_after_ms: None,
                    alignment: None,
                }),
                chain => {
                    let chain = chain.parse::<u32>().expect("the number of a chain");
                    if graph.chains.len() as u32 == chain {
                        graph.chains.push(Chain {
                            operators: Vec::new(),
                            inputs: vec![schema.clone()],
                            input_hints: Vec::new(),
                            head: Head::Stateless,
                            ports: Vec::new(),
                        });
                    }
                    let members = &mut graph.chains[chain as usize];
                    members.operators.push(index);
                    members.ports = vec![Port {
                        operator: index,
                        side: None,
                        schema: schema.clone(),
                        hints: Vec::new(),
                        computes_time: false,
                        computed_key: None,
                    }];
                    OperatorKind::Function {
                        construct: "map".to_owned(),
                        chain: ChainIndex(chain),
                        on_reject: RejectPolicy::Fail,
                    }
                }
            };
            graph.operators.push(Operator {
                name: format!("{what}-{}", index.0),
                uid: None,
                kind,
                parallelism: *parallelism,
                slot_sharing_group: group.map(str::to_owned),
            });
        }
        graph.edges = edges.iter().map(|&(from, to)| edge(from, to)).collect();
        graph
    }

    fn edge(from: u32, to: u32) -> Edge {
        Edge {
            from_operator: OperatorIndex(from),
            from_port: 0,
            to_operator: OperatorIndex(to),
            to_input: 0,
            partition: Partition::Forward,
        }
    }

    fn groups(operators: &[&str], edges: &[(u32, u32)]) -> Vec<String> {
        let operators: Vec<_> = operators.iter().map(|what| (*what, None)).collect();
        let graph = graph(&operators, edges);
        slot_sharing_groups(&graph).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_group_is_handed_on_until_another_one_is_named() {
        let chain = [(0, 1), (1, 2), (3, 4)];
        assert_eq!(groups(&["source", "0", "sink"], &chain[..2]), ["default"; 3]);
        assert_eq!(groups(&["source@a", "0", "sink"], &chain[..2]), ["a"; 3]);
        assert_eq!(groups(&["source", "0@a", "sink"], &chain[..2]), ["default", "a", "a"]);
        assert_eq!(
            groups(&["source@a", "0", "sink@default"], &chain[..2]),
            ["a", "a", "default"]
        );
        // Wherever it is named, the whole chain is in it, and so is what comes behind.
        let chained = [(0, 1), (2, 3)];
        assert_eq!(
            groups(&["source", "0", "0@a", "sink"], &chained),
            ["default", "a", "a", "a"]
        );
    }

    #[test]
    fn inputs_that_differ_hand_on_nothing() {
        let union = [(0, 2), (1, 2), (2, 3)];
        assert_eq!(groups(&["source@a", "source@a", "0", "sink"], &union), ["a"; 4]);
        let expect = ["a", "b", "default", "default"];
        assert_eq!(groups(&["source@a", "source@b", "0", "sink"], &union), expect);
        assert_eq!(
            groups(&["source@a", "source", "0", "sink"], &union)[2..],
            ["default", "default"]
        );
        assert_eq!(
            groups(&["source@a", "source@b", "0@b", "sink"], &union)[2..],
            ["b", "b"]
        );
    }

    #[test]
    fn the_order_of_operators_does_not_matter_nor_does_a_cycle() {
        assert_eq!(groups(&["sink", "0", "source@a"], &[(1, 0), (2, 1)]), ["a"; 3]);
        assert_eq!(groups(&["0", "1", "sink"], &[(0, 1), (1, 0), (1, 2)]), ["default"; 3]);
        assert_eq!(groups(&["0", "1@a", "sink"], &[(0, 1), (1, 0), (1, 2)]), ["a"; 3]);
    }

    #[test]
    fn each_group_has_as_many_slots_as_its_widest_task_has_subtasks() {
        let operators = [
            ("source", Some(1)),
            ("0@models", Some(4)),
            ("1", Some(2)),
            ("2@default", None),
            ("sink@out", Some(1)),
        ];
        let planned =
            plan(&graph(&operators, &[(0, 1), (1, 2), (2, 3), (3, 4)]), 3).expect("a graph that can be planned");
        let groups: Vec<_> = planned
            .placement
            .groups()
            .iter()
            .map(|group| (group.name.as_str(), group.slots.clone()))
            .collect();
        assert_eq!(groups, [("default", 0..3), ("models", 3..7), ("out", 7..8)]);
        assert_eq!(planned.placement.slot_of(TaskIndex(2), 1), SlotIndex(4));
        // Threads differ, not the way of the rows.
        let forward = planned
            .exchanges
            .iter()
            .filter(|exchange| exchange.partition == Partition::Forward);
        assert_eq!(forward.count(), 0, "all parallelisms differ");
        let same = [("source@a", None), ("0@b", None), ("sink", None)];
        let same = plan(&graph(&same, &[(0, 1), (1, 2)]), 2).expect("a graph that can be planned");
        assert!(
            same.exchanges
                .iter()
                .all(|exchange| exchange.partition == Partition::Forward)
        );
        assert_eq!(same.placement.slot_count(), 4);
    }

    #[test]
    fn watermarks_are_made_by_their_source_if_they_share_its_slots() {
        let merged = |source: &'static str, watermarks: &'static str| {
            let operators = [(source, None), (watermarks, None), ("sink", None)];
            let planned = plan(&graph(&operators, &[(0, 1), (1, 2)]), 1).expect("a graph that can be planned");
            matches!(
                &planned.tasks[0].kind,
                TaskKind::Source {
                    watermarks: Some(_),
                    ..
                }
            )
        };
        assert!(merged("source", "watermarks") && merged("source@a", "watermarks"));
        assert!(merged("source@a", "watermarks@a") && merged("source", "watermarks@default"));
        assert!(!merged("source@a", "watermarks@b") && !merged("source", "watermarks@a"));
    }

    #[test]
    fn what_cannot_be_a_group_is_refused_by_name() {
        let refused = |operators: &[&str], edges: &[(u32, u32)], parts: &[&str]| {
            let operators: Vec<_> = operators.iter().map(|what| (*what, None)).collect();
            let error = plan(&graph(&operators, edges), 1).expect_err("it cannot be planned");
            assert_eq!(error.code(), "GR0022");
            let message = error.to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        };
        let long = format!("0@{}", "long".repeat(64));
        for (function, why) in [
            ("0@", "blank"),
            ("0@ ", "blank"),
            ("0@a\nb", "control"),
            (&long, "256 bytes"),
        ] {
            refused(&["source", function, "sink"], &[(0, 1), (1, 2)], &["`0-1`", why]);
        }
        let parts = ["`0-1`", "`a`", "`0-2`", "`b`", "fused"];
        refused(&["source", "0@a", "0@b", "sink"], &[(0, 1), (2, 3)], &parts);
    }
}
