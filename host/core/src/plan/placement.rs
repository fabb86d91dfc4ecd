//! Which subtask runs in which slot.
//!
//! Tasks belong to slot-sharing groups. A group has as many slots as its most parallel task has subtasks, and the i-th of
//! them runs subtask i of every task of the group that has so many; tasks of other groups never run there. Slots are
//! numbered through all groups, so that the number of a slot is not that of the subtasks in it:
//!
//! ```text
//!   group    `default`                  `models`
//!   slot     0        1        2        3        4
//!   task a   a0       a1       a2
//!   task b   b0
//!   task c                              c0       c1
//! ```

use std::fmt;
use std::ops::Range;

use super::TaskIndex;

/// The group of tasks that are in no other.
pub const DEFAULT_SLOT_SHARING_GROUP: &str = "default";

/// Number of a slot among all of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotIndex(pub u32);

impl fmt::Display for SlotIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tasks that share slots with each other and with no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSharingGroup {
    /// Its name.
    pub name: String,
    /// The numbers of its slots.
    pub slots: Range<u32>,
}

/// Where a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    /// Index of its group.
    group: usize,
    parallelism: u32,
}

/// Where every subtask of a plan runs: one slot for each, and in each slot subtasks of one number and one group.
///
/// ```
/// # use millrace_core::plan::{Placement, SlotIndex, TaskIndex};
/// let placement = Placement::new([("default", 3), ("default", 1), ("models", 2)]);
/// assert_eq!(placement.slot_count(), 5);
/// assert_eq!(placement.slot_of(TaskIndex(2), 1), SlotIndex(4));
/// assert_eq!(placement.subtask_in(SlotIndex(4)), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    groups: Vec<SlotSharingGroup>,
    seats: Vec<Seat>,
}

impl Placement {
    /// For tasks in the order of their plan: of each the name of its group, and its parallelism. Groups come in the order
    /// of their first tasks.
    pub fn new<'g>(tasks: impl IntoIterator<Item = (&'g str, u32)>) -> Self {
        let mut widths: Vec<(&str, u32)> = Vec::new();
        let mut seats = Vec::new();
        for (name, parallelism) in tasks {
            assert!(parallelism > 0, "the planner refuses tasks without subtasks");
            let known = widths.iter().position(|(group, _)| *group == name);
            let group = known.unwrap_or(widths.len());
            match widths.get_mut(group) {
                Some((_, width)) => *width = parallelism.max(*width),
                None => widths.push((name, parallelism)),
            }
            seats.push(Seat { group, parallelism });
        }
        let mut first = 0;
        let groups = widths.into_iter().map(|(name, width)| {
            let slots = first..first + width;
            first = slots.end;
            let name = name.to_owned();
            SlotSharingGroup { name, slots }
        });
        Placement {
            groups: groups.collect(),
            seats,
        }
    }

    /// Number of slots: the largest parallelism of each group, summed up.
    pub fn slot_count(&self) -> u32 {
        self.groups.last().map_or(0, |group| group.slots.end)
    }

    /// All slots.
    pub fn slots(&self) -> impl Iterator<Item = SlotIndex> + use<> {
        (0..self.slot_count()).map(SlotIndex)
    }

    /// Whether there is no group but that of tasks which name none.
    pub fn is_undivided(&self) -> bool {
        self.groups.iter().all(|group| group.name == DEFAULT_SLOT_SHARING_GROUP)
    }

    /// All groups, in the order of their slots.
    pub fn groups(&self) -> &[SlotSharingGroup] {
        &self.groups
    }

    /// The group of a task.
    pub fn group_of(&self, task: TaskIndex) -> &SlotSharingGroup {
        &self.groups[self.seats[task.0].group]
    }

    /// The slot of a subtask.
    pub fn slot_of(&self, task: TaskIndex, subtask: u32) -> SlotIndex {
        assert!(subtask < self.seats[task.0].parallelism, "the task has fewer subtasks");
        SlotIndex(self.group_of(task).slots.start + subtask)
    }

    /// The number that all subtasks in a slot have.
    pub fn subtask_in(&self, slot: SlotIndex) -> u32 {
        slot.0 - self.groups[self.group_in(slot)].slots.start
    }

    /// The tasks of which a slot runs a subtask, in the order of the plan.
    pub fn tasks_in(&self, slot: SlotIndex) -> impl Iterator<Item = TaskIndex> {
        let (group, subtask) = (self.group_in(slot), self.subtask_in(slot));
        let seats = self.seats.iter().enumerate();
        let runs = move |seat: &Seat| seat.group == group && seat.parallelism > subtask;
        seats
            .filter(move |(_, seat)| runs(seat))
            .map(|(task, _)| TaskIndex(task))
    }

    fn group_in(&self, slot: SlotIndex) -> usize {
        let found = self.groups.iter().position(|group| group.slots.contains(&slot.0));
        found.expect("the slot is one of the plan")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::SplitMix64;

    /// What has to hold of every placement.
    fn check(tasks: &[(&str, u32)]) -> Placement {
        let placement = Placement::new(tasks.iter().copied());
        let mut placed = BTreeMap::new();
        for slot in placement.slots() {
            let subtask = placement.subtask_in(slot);
            let groups: Vec<&str> = placement.tasks_in(slot).map(|task| tasks[task.0].0).collect();
            assert!(!groups.is_empty(), "{tasks:?}: nothing runs in slot {slot}");
            assert!(groups.iter().all(|group| *group == groups[0]), "{tasks:?}: {groups:?}");
            for task in placement.tasks_in(slot) {
                assert_eq!(placement.slot_of(task, subtask), slot, "{tasks:?}");
                assert!(placement.group_of(task).slots.contains(&slot.0), "{tasks:?}");
                assert_eq!(placement.group_of(task).name, tasks[task.0].0);
                assert_eq!(placed.insert((task, subtask), slot), None, "{tasks:?}: placed twice");
            }
        }
        let every = (0..tasks.len()).flat_map(|task| (0..tasks[task].1).map(move |subtask| (TaskIndex(task), subtask)));
        assert_eq!(placed.keys().copied().collect::<Vec<_>>(), every.collect::<Vec<_>>());
        let mut widest = BTreeMap::new();
        for (group, parallelism) in tasks {
            let width = widest.entry(*group).or_insert(0);
            *width = (*parallelism).max(*width);
        }
        assert_eq!(placement.slot_count(), widest.values().sum::<u32>(), "{tasks:?}");
        assert_eq!(placement.groups().len(), widest.len());
        placement
    }

    #[test]
    fn in_one_group_slots_and_subtasks_have_the_same_numbers() {
        let placement = check(&[("default", 2), ("default", 4), ("default", 1)]);
        for slot in placement.slots() {
            assert_eq!(placement.subtask_in(slot), slot.0);
        }
        assert!(placement.is_undivided() && !Placement::new([("models", 2)]).is_undivided());
        let tasks = |slot| {
            placement
                .tasks_in(SlotIndex(slot))
                .map(|task| task.0)
                .collect::<Vec<_>>()
        };
        assert_eq!([tasks(0), tasks(1), tasks(2)], [vec![0, 1, 2], vec![0, 1], vec![1]]);
    }

    #[test]
    fn groups_have_slots_of_their_own() {
        let placement = check(&[("default", 3), ("models", 2), ("default", 1), ("out", 1), ("models", 4)]);
        let slots: Vec<_> = placement
            .groups()
            .iter()
            .map(|group| (group.name.as_str(), group.slots.clone()))
            .collect();
        assert_eq!(slots, [("default", 0..3), ("models", 3..7), ("out", 7..8)]);
        assert_eq!(placement.slot_of(TaskIndex(1), 1), placement.slot_of(TaskIndex(4), 1));
        assert_eq!(placement.slot_of(TaskIndex(3), 0), SlotIndex(7));
    }

    #[test]
    fn every_subtask_has_its_slot_in_any_plan() {
        const GROUPS: [&str; 5] = ["default", "a", "b", "c", "d"];
        let mut random = SplitMix64::new(7);
        let mut below = |bound: u64| ((random.draw() >> 32) * bound) >> 32;
        for _ in 0..500 {
            let groups = below(5) + 1;
            let tasks = (0..=below(12)).map(|_| (GROUPS[below(groups) as usize], 1 + below(9) as u32));
            check(&tasks.collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic = "fewer subtasks"]
    fn a_subtask_that_is_not_there_has_no_slot() {
        Placement::new([("default", 3), ("default", 1)]).slot_of(TaskIndex(1), 1);
    }
}
