//! The rows that partial matches share.
//!
//! A match is a path of *nodes* from its last row to its first. Partial matches that begin alike share the nodes of the
//! beginning, and nodes share *events*, which are rows that some match has taken. Both are counted: what nothing refers to any
//! more is freed at once, and the places of freed rows wait in [`Buffer::freed`] for whoever keeps the rows.
//!
//! Most rows are taken once. So an event and one node of it lie in one [`Cell`], under one number, and whoever follows a
//! match finds a row in a single cache line. More nodes of an event have cells of their own, whose event is empty.

use crate::{Conditions, Millis};

/// No node: a match that has not begun.
pub const NO_NODE: u32 = u32::MAX;

/// No event: no match has taken the row.
const NO_EVENT: u32 = u32::MAX;

/// Cells of a path that are looked at before it is gone along.
const WARMED_CELLS: usize = 4;

/// Where a row lies, as whoever keeps the rows numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The batch that it is in.
    pub batch: u32,
    /// Its row there.
    pub row: u32,
}

/// A row that is being matched.
#[derive(Debug, Clone, Copy)]
pub struct Incoming {
    /// Where it lies.
    pub place: Place,
    /// When it was.
    pub time: Millis,
    /// Conditions that hold of it, or may, if they look at other rows.
    pub may: Conditions,
    order: u64,
    /// What it has become, if a match has taken it.
    event: u32,
}

impl Incoming {
    /// A row that nothing has taken yet.
    pub fn new(place: Place, time: Millis, may: Conditions) -> Self {
        Incoming {
            place,
            time,
            may,
            order: 0,
            event: NO_EVENT,
        }
    }
}

/// A row that was taken.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Where it lies.
    pub place: Place,
    /// When it was.
    pub time: Millis,
    /// Rows of a key were matched in this order.
    pub order: u64,
    refs: u32,
}

/// A row as a stage of a match.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// The row.
    pub event: u32,
    /// The row before, or [`NO_NODE`].
    pub parent: u32,
    refs: u32,
    /// Index into [`Program::stages`](crate::Program::stages).
    pub stage: u16,
}

/// Room for an event and a node, each there while something refers to it.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Cell {
    event: Event,
    node: Node,
    /// The call that the event was gathered for last, and its row there.
    gathered: (u32, u32),
}

const EMPTY: Cell = Cell {
    event: Event {
        place: Place { batch: 0, row: 0 },
        time: 0,
        order: 0,
        refs: 0,
    },
    node: Node {
        event: NO_EVENT,
        parent: NO_NODE,
        refs: 0,
        stage: 0,
    },
    gathered: (0, 0),
};

/// All nodes and events of an operator.
#[derive(Debug, Default)]
pub struct Buffer {
    cells: Vec<Cell>,
    free: Vec<u32>,
    /// Of events that are gone.
    pub freed: Vec<Place>,
    last_order: u64,
    /// For which rows are gathered.
    call: u32,
}

impl Buffer {
    fn cell(&mut self, number: u32) -> &mut Cell {
        &mut self.cells[number as usize]
    }

    /// The number of an empty cell.
    fn add_cell(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.cells.push(EMPTY);
            self.cells.len() as u32 - 1
        })
    }

    /// A row is matched now: its order.
    #[inline]
    pub fn begin(&mut self, row: &mut Incoming) -> u64 {
        row.order = self.next_order();
        row.order
    }

    /// That of a row which was matched before, and is taken up again.
    pub fn next_order(&mut self) -> u64 {
        self.last_order += 1;
        self.last_order
    }

    /// The event that a row becomes.
    #[inline]
    pub fn take(&mut self, row: &mut Incoming) -> u32 {
        if row.event == NO_EVENT {
            row.event = self.add_event(row.place, row.time, row.order);
        }
        row.event
    }

    /// A row was matched: what it has become, unless nothing wants it.
    #[inline]
    pub fn end(&mut self, row: Incoming) -> Option<u32> {
        if row.event == NO_EVENT {
            self.freed.push(row.place);
            return None;
        }
        self.release_event(row.event);
        (self.event(row.event).refs > 0).then_some(row.event)
    }

    /// Keeps a row, for whoever asked.
    #[inline]
    pub fn add_event(&mut self, place: Place, time: Millis, order: u64) -> u32 {
        let number = self.add_cell();
        self.cell(number).event = Event {
            place,
            time,
            order,
            refs: 1,
        };
        number
    }

    /// An event that is kept.
    #[inline]
    pub fn event(&self, event: u32) -> &Event {
        &self.cells[event as usize].event
    }

    /// The row lies elsewhere now.
    pub fn move_event(&mut self, event: u32, place: Place) {
        self.cell(event).event.place = place;
    }

    /// Gives up an event, as whoever kept it.
    pub fn release_event(&mut self, event: u32) {
        let cell = self.cell(event);
        cell.event.refs -= 1;
        if cell.event.refs > 0 {
            return;
        }
        // The node of the cell is one of this event, or there is none.
        let place = cell.event.place;
        self.freed.push(place);
        self.free.push(event);
    }

    /// A node, for whoever asked; it holds its parent and its event.
    #[inline]
    pub fn add_node(&mut self, event: u32, stage: u16, parent: u32) -> u32 {
        if parent != NO_NODE {
            self.retain(parent);
        }
        let own = self.cell(event);
        own.event.refs += 1;
        let number = match own.node.refs {
            0 => event,
            _ => self.add_cell(),
        };
        self.cell(number).node = Node {
            event,
            parent,
            refs: 1,
            stage,
        };
        number
    }

    /// A node that is kept.
    #[inline]
    pub fn node(&self, node: u32) -> &Node {
        &self.cells[node as usize].node
    }

    /// Keeps a node, for whoever asks.
    #[inline]
    pub fn retain(&mut self, node: u32) {
        self.cell(node).node.refs += 1;
    }

    /// Gives up a node, as whoever kept it; those before it go with it, if nothing else keeps them.
    #[inline]
    pub fn release(&mut self, mut node: u32) {
        while node != NO_NODE {
            let kept = &mut self.cell(node).node;
            kept.refs -= 1;
            if kept.refs > 0 {
                return;
            }
            let (event, parent) = (kept.event, kept.parent);
            if event != node {
                self.free.push(node);
            }
            self.release_event(event);
            node = parent;
        }
    }

    /// The nodes of a match, the last row first.
    #[inline]
    pub fn path(&self, mut node: u32) -> impl Iterator<Item = (u32, &Node)> {
        std::iter::from_fn(move || {
            let number = node;
            let found = (number != NO_NODE).then(|| self.node(number))?;
            node = found.parent;
            Some((number, found))
        })
    }

    /// Rows are gathered for another call.
    pub fn begin_gathering(&mut self) {
        self.call = self.call.wrapping_add(1);
        if self.call == 0 {
            self.cells.iter_mut().for_each(|cell| cell.gathered.0 = 0);
            self.call = 1;
        }
    }

    /// The row that an event has in the call: `next`, if it is gathered now.
    #[inline]
    pub fn gather(&mut self, event: u32, next: u32) -> u32 {
        let call = self.call;
        let cell = self.cell(event);
        if cell.gathered.0 != call {
            cell.gathered = (call, next);
        }
        cell.gathered.1
    }

    /// Looks at cells that are about to be filled, so many: memory answers many such questions at once.
    pub fn warm_free(&self, count: usize) {
        let next = self.free.iter().rev().take(count);
        let refs = next.map(|&number| self.node(number).refs);
        std::hint::black_box(refs.fold(0, u32::wrapping_add));
    }

    /// The same for the last cells of some paths.
    pub fn warm_paths(&self, nodes: impl Iterator<Item = u32>) {
        let mut nodes = nodes.collect::<Vec<_>>();
        for _ in 0..WARMED_CELLS {
            for node in nodes.iter_mut().filter(|node| **node != NO_NODE) {
                *node = self.node(*node).parent;
            }
        }
        std::hint::black_box(nodes);
    }

    /// Rooms that are taken: none is, if no row is kept.
    pub fn event_count(&self) -> usize {
        self.cells.len() - self.free.len()
    }

    /// Bytes of memory that it takes, about.
    pub fn memory_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<Cell>()
            + (self.free.capacity() + 2 * self.freed.capacity()) * size_of::<u32>()
    }
}
