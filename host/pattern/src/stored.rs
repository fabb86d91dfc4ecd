//! What has begun of a key, by itself: what a snapshot has of it, beside the values of its rows.
//!
//! In the buffer keys share numbers and room; here rows and nodes are those of one key and count from 0. What comes back is
//! checked, for it may have been written by anybody.

use std::collections::BTreeMap;

use crate::buffer::{Buffer, NO_NODE, Place};
use crate::matcher::{Completed, Key, Matcher, Partial, Start};
use crate::{Millis, Program};

/// A row as a stage of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredNode {
    /// Index into [`Stored::rows`].
    pub row: u32,
    /// Index into [`Program::stages`].
    pub stage: u16,
    /// The row before it: an earlier one of [`Stored::nodes`]. None: the match begins here.
    pub parent: Option<u32>,
}

/// A match that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPartial {
    /// Where it has come to.
    pub position: u16,
    /// The edges that it waits on.
    pub edges: u64,
    /// Its last row: one of [`Stored::nodes`].
    pub node: u32,
}

/// A match that waits for earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredCompleted {
    /// Its last row: one of [`Stored::nodes`].
    pub node: u32,
    /// When it was complete.
    pub time: Millis,
}

/// What has begun of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Rows that matches have taken, in the order in which they were matched, with their times.
    pub rows: Vec<(Place, Millis)>,
    /// Those rows as stages of matches. Parents come first.
    pub nodes: Vec<StoredNode>,
    /// Matches that have begun.
    pub partials: Vec<StoredPartial>,
    /// Matches that wait for earlier ones.
    pub completed: Vec<StoredCompleted>,
}

impl Stored {
    /// Becomes that of this key.
    pub fn set(&mut self, key: &Key, buffer: &Buffer) {
        let ends = key.partials.iter().map(|partial| partial.node);
        let ends = ends.chain(key.completed().iter().map(|completed| completed.node));
        // By order, so that rows are stored in that in which they were matched; parents come before their children.
        let (mut rows, mut nodes) = (BTreeMap::new(), BTreeMap::new());
        for end in ends {
            for (number, node) in buffer.path(end) {
                let order = buffer.event(node.event).order;
                rows.insert(order, (node.event, 0));
                if nodes.insert((order, number), 0).is_some() {
                    break;
                }
            }
        }
        self.clear();
        for ((event, row), index) in rows.values_mut().zip(0..) {
            *row = index;
            let event = buffer.event(*event);
            self.rows.push((event.place, event.time));
        }
        let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
        for (index, (order, number)) in (0..).zip(nodes.keys()) {
            let node = buffer.node(*number);
            numbers.insert(*number, index);
            self.nodes.push(StoredNode {
                row: rows[order].1,
                stage: node.stage,
                parent: (node.parent != NO_NODE).then(|| numbers[&node.parent]),
            });
        }
        self.partials.extend(key.partials.iter().map(|partial| StoredPartial {
            position: partial.position,
            edges: partial.edges,
            node: numbers[&partial.node],
        }));
        self.completed
            .extend(key.completed().iter().map(|completed| StoredCompleted {
                node: numbers[&completed.node],
                time: completed.time,
            }));
    }

    /// Becomes that of a key of which nothing has begun.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.nodes.clear();
        self.partials.clear();
        self.completed.clear();
    }

    /// Whether this can be of such a program.
    fn is_of(&self, program: &Program) -> bool {
        let node = |(index, node): (usize, &StoredNode)| {
            let parent = node.parent.is_none_or(|parent| (parent as usize) < index);
            parent && (node.row as usize) < self.rows.len() && usize::from(node.stage) < program.stages.len()
        };
        let partial = |partial: &StoredPartial| {
            let position = program.positions.get(usize::from(partial.position));
            let known = position.map_or(0, |position| position.edges.len() as u32);
            let waits = partial.edges != 0 && partial.edges.leading_zeros() >= u64::BITS - known;
            waits && (partial.node as usize) < self.nodes.len()
        };
        let completed = |completed: &StoredCompleted| (completed.node as usize) < self.nodes.len();
        self.nodes.iter().enumerate().all(node)
            && self.partials.iter().all(partial)
            && self.completed.iter().all(completed)
    }
}

impl Matcher {
    /// Takes up what was stored of a key of this program, whose rows lie where it says. The key, and the events that its rows
    /// have become; one that no match has taken is given up at once. None: it makes no sense.
    pub fn restore(&mut self, stored: &Stored) -> Option<(Key, Vec<u32>)> {
        if !stored.is_of(&self.program) {
            return None;
        }
        let buffer = &mut self.buffer;
        let mut events = Vec::with_capacity(stored.rows.len());
        for &(place, time) in &stored.rows {
            let order = buffer.next_order();
            events.push(buffer.add_event(place, time, order));
        }
        let mut nodes = Vec::with_capacity(stored.nodes.len());
        for node in &stored.nodes {
            let parent = node.parent.map_or(NO_NODE, |parent| nodes[parent as usize]);
            nodes.push(buffer.add_node(events[node.row as usize], node.stage, parent));
        }
        let mut key = Key::default();
        for partial in &stored.partials {
            let node = nodes[partial.node as usize];
            buffer.retain(node);
            key.partials.push(Partial {
                position: partial.position,
                edges: partial.edges,
                node,
                start: start(buffer, node),
            });
        }
        for completed in &stored.completed {
            let node = nodes[completed.node as usize];
            buffer.retain(node);
            let (start, time) = (start(buffer, node), completed.time);
            key.completed_mut().push(Completed { node, start, time });
        }
        // Each was held while it was taken up.
        nodes.iter().for_each(|&node| buffer.release(node));
        events.iter().for_each(|&event| buffer.release_event(event));
        Some((key, events))
    }

    /// Gives up what has begun of a key.
    pub fn forget(&mut self, key: &Key) {
        let completed = key.completed().iter().map(|completed| completed.node);
        let ends = key.partials.iter().map(|partial| partial.node).chain(completed);
        ends.for_each(|node| self.buffer.release(node));
    }
}

/// The first row of a match.
fn start(buffer: &Buffer, node: u32) -> Start {
    let first = buffer.path(node).last().expect("a match has a row").1;
    let event = buffer.event(first.event);
    Start {
        time: event.time,
        order: event.order,
    }
}
