//! The rows that partial matches share.
//!
//! A match is a path of *nodes* from its last row to its first. Partial matches that begin alike share the nodes of the
//! beginning, and nodes share *events*, which are rows that are kept. Both are counted: what nothing refers to any more is
//! freed at once, and the places of freed rows wait in [`Buffer::freed`] for whoever keeps the columns.

use millrace_core::block::Millis;
use millrace_core::pattern::Conditions;

/// No node: a match that has not begun.
pub(super) const NO_NODE: u32 = u32::MAX;

/// Where a row lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) batch: u32,
    pub(super) row: u32,
}

/// A row that is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) place: Place,
    pub(super) time: Millis,
    /// Rows of a key were matched in this order; [`u64::MAX`] while it waits.
    pub(super) order: u64,
    /// Conditions that hold of it, or may, if they look at other rows.
    pub(super) may: Conditions,
    refs: u32,
}

/// A row as a stage of a match.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) event: u32,
    pub(super) stage: u16,
    /// The row before, or [`NO_NODE`].
    pub(super) parent: u32,
    refs: u32,
}

/// Values by number, whose numbers are used again.
#[derive(Debug)]
struct Slab<T> {
    values: Vec<T>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    fn put(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.values[number as usize] = value;
                number
            }
            None => {
                self.values.push(value);
                self.values.len() as u32 - 1
            }
        }
    }
}

/// All nodes and events of an operator.
#[derive(Debug)]
pub(super) struct Buffer {
    nodes: Slab<Node>,
    events: Slab<Event>,
    /// Of events that are gone.
    pub(super) freed: Vec<Place>,
    last_order: u64,
}

impl Buffer {
    pub(super) fn new() -> Self {
        Buffer {
            nodes: Slab {
                values: Vec::new(),
                free: Vec::new(),
            },
            events: Slab {
                values: Vec::new(),
                free: Vec::new(),
            },
            freed: Vec::new(),
            last_order: 0,
        }
    }

    /// Keeps a row, for whoever asked.
    pub(super) fn add_event(&mut self, place: Place, time: Millis, may: Conditions) -> u32 {
        self.events.put(Event {
            place,
            time,
            order: u64::MAX,
            may,
            refs: 1,
        })
    }

    pub(super) fn event(&self, event: u32) -> &Event {
        &self.events.values[event as usize]
    }

    /// Whether this event is there and lies at this place.
    pub(super) fn is_at(&self, event: u32, place: Place) -> bool {
        let event = self.event(event);
        event.refs > 0 && event.place == place
    }

    /// The row lies elsewhere now.
    pub(super) fn move_event(&mut self, event: u32, place: Place) {
        self.events.values[event as usize].place = place;
    }

    /// The row is matched now.
    pub(super) fn set_order(&mut self, event: u32) -> u64 {
        self.last_order += 1;
        self.events.values[event as usize].order = self.last_order;
        self.last_order
    }

    pub(super) fn retain_event(&mut self, event: u32) {
        self.events.values[event as usize].refs += 1;
    }

    pub(super) fn release_event(&mut self, event: u32) {
        let kept = &mut self.events.values[event as usize];
        kept.refs -= 1;
        if kept.refs == 0 {
            self.freed.push(kept.place);
            self.events.free.push(event);
        }
    }

    /// A node, for whoever asked; it holds its parent and its event.
    pub(super) fn add_node(&mut self, event: u32, stage: u16, parent: u32) -> u32 {
        self.events.values[event as usize].refs += 1;
        if parent != NO_NODE {
            self.retain(parent);
        }
        self.nodes.put(Node {
            event,
            stage,
            parent,
            refs: 1,
        })
    }

    pub(super) fn node(&self, node: u32) -> &Node {
        &self.nodes.values[node as usize]
    }

    pub(super) fn retain(&mut self, node: u32) {
        self.nodes.values[node as usize].refs += 1;
    }

    pub(super) fn release(&mut self, mut node: u32) {
        while node != NO_NODE {
            let kept = &mut self.nodes.values[node as usize];
            kept.refs -= 1;
            if kept.refs > 0 {
                return;
            }
            let (event, parent) = (kept.event, kept.parent);
            self.nodes.free.push(node);
            self.release_event(event);
            node = parent;
        }
    }

    /// The nodes of a match, the last row first.
    pub(super) fn path(&self, mut node: u32) -> impl Iterator<Item = (u32, &Node)> {
        std::iter::from_fn(move || {
            let number = node;
            let found = (number != NO_NODE).then(|| self.node(number))?;
            node = found.parent;
            Some((number, found))
        })
    }

    #[cfg(test)]
    /// Events that are kept.
    pub(super) fn event_count(&self) -> usize {
        self.events.values.len() - self.events.free.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.nodes.values.capacity() * size_of::<Node>() + self.events.values.capacity() * size_of::<Event>()
    }
}
