//! From a plan to channels: which subtask of which slot reads what from whom.
//!
//! Where each subtask runs is the plan's to say. A channel between two subtasks of one slot is direct; between two
//! slots it is a bounded queue.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;
use millrace_core::block::Block;
use millrace_core::checkpoint::EdgeName;
use millrace_core::graph::Partition;
use millrace_core::key::KeyGroups;
use millrace_core::plan::{Exchange, Plan, TaskIndex};
use millrace_core::random::SplitMix64;
use millrace_core::{Error, Result};
use millrace_net::queue::{self, Receiver, Sleeper};

use super::outputs::{EdgeOutput, Route, Target};

/// Where a channel's elements come from.
pub(crate) enum Origin {
    /// Another slot.
    Remote(Receiver),
    /// A subtask of the same slot.
    Local,
}

/// How the receiver finds the key columns of a channel's blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// Columns of the rows.
    Fields(Vec<usize>),
    /// The block's computed key.
    Computed,
    /// The channel is not keyed.
    None,
    /// Nor is it here, and all receivers have the same rows.
    Broadcast,
}

/// One input channel.
pub(crate) struct Channel {
    /// Input of the chain.
    pub(crate) input: u32,
    pub(crate) origin: Origin,
    pub(crate) keys: KeySource,
    /// The edge that it is of.
    pub(crate) edge: Arc<EdgeName>,
    /// Number of the sending subtask.
    pub(crate) sender: u32,
}

/// One subtask's ends.
pub(crate) struct SubtaskWiring {
    /// Index of the task in the plan.
    pub(crate) task: usize,
    pub(crate) channels: Vec<Channel>,
    pub(crate) edges: Vec<EdgeOutput>,
}

/// All subtasks of a slot, in plan order: senders before receivers.
pub(crate) struct SlotWiring {
    pub(crate) subtasks: Vec<SubtaskWiring>,
}

/// The names of a plan's edges. `ids` are the identities of its tasks.
pub(crate) fn edge_names(plan: &Plan, ids: &[&str]) -> Vec<EdgeName> {
    let exchanges = plan.exchanges.iter().enumerate();
    let name = |(at, exchange): (usize, &Exchange)| {
        let same = |other: &&Exchange| {
            let ends = |exchange: &Exchange| (exchange.from, exchange.from_port, exchange.to, exchange.to_input);
            ends(other) == ends(exchange)
        };
        EdgeName {
            from: ids[exchange.from.0].to_owned(),
            port: exchange.from_port,
            input: exchange.to_input,
            number: plan.exchanges[..at].iter().filter(same).count() as u32,
        }
    };
    exchanges.map(name).collect()
}

/// Makes all channels of a plan; the result has one entry per slot. `ids` are the identities of its tasks.
pub(crate) fn wire(plan: &Plan, ids: &[&str], sleepers: &[Sleeper]) -> Vec<SlotWiring> {
    let unconnected = |task: TaskIndex| SubtaskWiring {
        task: task.0,
        channels: Vec::new(),
        edges: Vec::new(),
    };
    let slots = plan.placement.slots().map(|slot| SlotWiring {
        subtasks: plan.placement.tasks_in(slot).map(unconnected).collect(),
    });
    let mut slots: Vec<SlotWiring> = slots.collect();
    for (exchange, name) in plan.exchanges.iter().zip(edge_names(plan, ids)) {
        let name = Arc::new(name);
        for sender in 0..plan.tasks[exchange.from.0].parallelism {
            wire_sender(plan, exchange, &name, sender, sleepers, &mut slots);
        }
    }
    slots
}

fn position(slot: &SlotWiring, task: TaskIndex) -> usize {
    slot.subtasks
        .iter()
        .position(|subtask| subtask.task == task.0)
        .expect("the slot runs a subtask of this task")
}

fn wire_sender(
    plan: &Plan,
    exchange: &Exchange,
    edge: &Arc<EdgeName>,
    sender: u32,
    sleepers: &[Sleeper],
    slots: &mut [SlotWiring],
) {
    let senders = plan.tasks[exchange.from.0].parallelism;
    let receivers = plan.tasks[exchange.to.0].parallelism;
    let all = 0..receivers;
    let (route, receivers_of) = match &exchange.partition {
        Partition::Forward | Partition::SameSubtask => (Route::One, sender..sender + 1),
        Partition::Global => (Route::One, all),
        Partition::HashFields(fields) => (
            Route::HashFields(fields.iter().map(|&field| field as usize).collect()),
            all,
        ),
        Partition::HashComputed => (Route::HashComputed, all),
        Partition::Rebalance => (Route::Rebalance, all),
        Partition::Rescale => (Route::Rebalance, part_of(sender, senders, receivers)),
        Partition::Shuffle => (Route::Shuffle(SplitMix64::new(u64::from(sender))), all),
        Partition::Numbered => (Route::Numbered, all),
        Partition::Broadcast => (Route::Broadcast, all),
    };
    let keys = match &exchange.partition {
        Partition::HashFields(fields) => KeySource::Fields(fields.iter().map(|&field| field as usize).collect()),
        Partition::HashComputed => KeySource::Computed,
        Partition::Forward
        | Partition::Rebalance
        | Partition::Rescale
        | Partition::Shuffle
        | Partition::Numbered
        | Partition::Global
        | Partition::SameSubtask => KeySource::None,
        Partition::Broadcast => KeySource::Broadcast,
    };
    let slot_of = |task, subtask| plan.placement.slot_of(task, subtask).0 as usize;
    let from = slot_of(exchange.from, sender);
    let mut targets = Vec::new();
    for receiver in receivers_of {
        let to = slot_of(exchange.to, receiver);
        let subtask = position(&slots[to], exchange.to);
        let channels = &mut slots[to].subtasks[subtask].channels;
        let (target, origin) = if to == from {
            (
                Target::Local {
                    subtask,
                    channel: channels.len(),
                },
                Origin::Local,
            )
        } else {
            let (sending, receiving) = queue::channel(sleepers[from].clone(), sleepers[to].clone());
            (Target::Remote(sending), Origin::Remote(receiving))
        };
        channels.push(Channel {
            input: exchange.to_input,
            origin,
            keys: keys.clone(),
            edge: edge.clone(),
            sender,
        });
        targets.push(target);
    }
    let groups = KeyGroups::new(receivers, plan.max_parallelism);
    let position = position(&slots[from], exchange.from);
    let edge = EdgeOutput {
        port: exchange.from_port,
        route,
        targets,
        groups,
    };
    slots[from].subtasks[position].edges.push(edge);
}

/// Which receivers a sender of so many has for itself: all of them are somebody's.
fn part_of(sender: u32, senders: u32, receivers: u32) -> Range<u32> {
    if receivers < senders {
        let own = sender * receivers / senders;
        return own..own + 1;
    }
    let start = |sender: u32| (sender * receivers).div_ceil(senders);
    start(sender)..start(sender + 1)
}

/// The key columns of a block.
pub(crate) fn key_columns(keys: &KeySource, block: &Block) -> Result<Vec<ArrayRef>> {
    match keys {
        KeySource::Fields(fields) => Ok(fields.iter().map(|&field| block.rows.column(field).clone()).collect()),
        KeySource::Computed => {
            let keys = block
                .keys
                .as_ref()
                .ok_or_else(|| Error::internal("rows came without their computed key"))?;
            Ok(keys.to_vec())
        }
        KeySource::None | KeySource::Broadcast => {
            Err(Error::internal("the planner let an unkeyed edge into a keyed chain"))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use millrace_core::graph::OperatorIndex;
    use millrace_core::plan::{Placement, Task, TaskKind};

    use super::*;

    #[test]
    fn every_receiver_is_somebodys() {
        for senders in 1..9 {
            for receivers in 1..9 {
                let mut taken = vec![0; receivers as usize];
                for sender in 0..senders {
                    let part = part_of(sender, senders, receivers);
                    assert!(!part.is_empty());
                    part.for_each(|receiver| taken[receiver as usize] += 1);
                }
                let (least, most) = (taken.iter().min().unwrap(), taken.iter().max().unwrap());
                assert!(*least >= 1 && most - least <= 1, "{senders} {receivers} {taken:?}");
                assert!(receivers < senders || *most == 1);
            }
        }
        assert_eq!(part_of(1, 2, 5), 3..5);
        assert_eq!(part_of(2, 5, 2), 0..1);
    }

    /// A plan of two tasks in these groups, the first of which sends to the second.
    pub(in crate::worker) fn two_tasks(groups: [(&str, u32); 2], partition: Partition) -> Plan {
        let task = |(_, parallelism)| Task {
            name: String::new(),
            kind: TaskKind::Sink {
                operator: OperatorIndex(0),
            },
            parallelism,
        };
        let exchange = Exchange {
            from: TaskIndex(0),
            from_port: 0,
            to: TaskIndex(1),
            to_input: 0,
            partition,
        };
        Plan {
            tasks: groups.map(task).to_vec(),
            exchanges: vec![exchange],
            max_parallelism: 128,
            placement: Placement::new(groups),
        }
    }

    /// Of each channel between two tasks in these groups: the slot of its receiver, the number of its sender, and whether it
    /// is a queue.
    fn channels(groups: [(&str, u32); 2], partition: Partition) -> Vec<(usize, u32, bool)> {
        let plan = two_tasks(groups, partition);
        let sleepers: Vec<Sleeper> = plan.placement.slots().map(|_| Sleeper::default()).collect();
        let mut found = Vec::new();
        for (slot, wiring) in wire(&plan, &["a", "b"], &sleepers).iter().enumerate() {
            let receivers = wiring.subtasks.iter().filter(|subtask| subtask.task == 1);
            for channel in receivers.flat_map(|subtask| &subtask.channels) {
                found.push((slot, channel.sender, matches!(channel.origin, Origin::Remote(_))));
            }
        }
        found
    }

    #[test]
    fn only_neighbours_in_a_slot_hand_rows_over_directly() {
        let forward = |groups| channels(groups, Partition::Forward);
        assert_eq!(forward([("a", 2), ("a", 2)]), [(0, 0, false), (1, 1, false)]);
        // Subtask i sends to subtask i, wherever they are.
        assert_eq!(forward([("a", 2), ("b", 2)]), [(2, 0, true), (3, 1, true)]);
        let rebalanced = |groups| channels(groups, Partition::Rebalance);
        let expect = [(0, 0, false), (0, 1, true), (1, 0, true), (1, 1, false)];
        assert_eq!(rebalanced([("a", 2), ("a", 2)]), expect);
        assert_eq!(rebalanced([("a", 1), ("b", 2)]), [(1, 0, true), (2, 0, true)]);
        assert_eq!(rebalanced([("a", 2), ("b", 1)]), [(2, 0, true), (2, 1, true)]);
    }
}
