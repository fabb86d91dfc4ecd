//! Where a subtask's rows go: for each output port the edges, for each edge the channels.
//!
//! Local receivers (same slot) get elements through the slot loop, which collects them from
//! [`Outputs::take_local`] after each step; others through bounded queues. Nothing here waits: the loop asks
//! [`Outputs::has_room`] before a step.

use millrace_core::Result;
use millrace_core::block::{Block, Element, Millis};
use millrace_core::checkpoint::CheckpointId;
use millrace_core::key::{KeyGroups, hash_rows};
use millrace_net::partition::Selection;
use millrace_net::queue::Sender;

/// One channel.
pub(crate) enum Target {
    /// Subtask of the same slot, by position, and its channel.
    Local { subtask: usize, channel: usize },
    /// Another slot.
    Remote(Sender),
}

/// How an edge picks receivers.
pub(crate) enum Route {
    /// The first target gets all rows: forward, or global; watermarks go to all targets.
    One,
    /// By key group of columns.
    HashFields(Vec<usize>),
    /// By key group of the computed key.
    HashComputed,
    /// Block by block in turn.
    Rebalance,
    /// All.
    Broadcast,
}

/// The channels of one edge from one subtask.
pub(crate) struct EdgeOutput {
    pub(crate) port: u32,
    pub(crate) route: Route,
    pub(crate) targets: Vec<Target>,
    pub(crate) groups: KeyGroups,
}

/// Elements for other subtasks of the same slot: (subtask, channel, element).
pub(crate) type LocalElement = (usize, usize, Element);

/// All outputs of a subtask.
#[derive(Default)]
pub(crate) struct Outputs {
    edges: Vec<EdgeOutput>,
    local: Vec<LocalElement>,
    hashes: Vec<u64>,
    selection: Selection,
    next: usize,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Outputs {
    pub(crate) fn new(edges: Vec<EdgeOutput>) -> Self {
        Outputs {
            edges,
            ..Outputs::default()
        }
    }

    /// Whether every queue can take what a step puts out.
    pub(crate) fn has_room(&self) -> bool {
        self.edges
            .iter()
            .flat_map(|edge| &edge.targets)
            .all(|target| match target {
                Target::Local { .. } => true,
                Target::Remote(sender) => sender.has_room(),
            })
    }

    /// Subtasks of the same slot that get elements from here, and their channels.
    pub(crate) fn local_targets(&self) -> Vec<(usize, usize)> {
        self.edges
            .iter()
            .flat_map(|edge| &edge.targets)
            .filter_map(local)
            .collect()
    }

    /// Takes the elements for the same slot.
    pub(crate) fn take_local(&mut self, into: &mut Vec<LocalElement>) {
        into.append(&mut self.local);
    }

    /// Rows of a port.
    pub(crate) fn emit(&mut self, port: u32, block: Block) -> Result<()> {
        self.rows += block.row_count() as u64;
        self.bytes += block.byte_count() as u64;
        let Outputs {
            edges,
            local,
            hashes,
            selection,
            next,
            ..
        } = self;
        let mut edges = edges.iter_mut().filter(|edge| edge.port == port).peekable();
        while let Some(edge) = edges.next() {
            // The last edge of a port takes the block itself.
            let block = if edges.peek().is_some() {
                block.clone()
            } else {
                return edge.send(block, hashes, selection, next, local);
            };
            edge.send(block, hashes, selection, next, local)?;
        }
        Ok(())
    }

    /// An element that is no block, to all receivers of all ports.
    fn announce(&mut self, element: &Element) {
        for target in self.edges.iter().flat_map(|edge| &edge.targets) {
            push(target, element.clone(), &mut self.local);
        }
    }

    /// No earlier rows will come.
    pub(crate) fn watermark(&mut self, watermark: Millis) {
        self.announce(&Element::Watermark(watermark));
    }

    /// Nothing comes for now.
    pub(crate) fn idle(&mut self) {
        self.announce(&Element::Idle);
    }

    /// What went out before belongs to this checkpoint.
    pub(crate) fn barrier(&mut self, id: CheckpointId) {
        self.announce(&Element::Barrier(id));
    }

    /// Nothing comes any more.
    pub(crate) fn end(&mut self) {
        self.announce(&Element::End);
    }
}

fn local(target: &Target) -> Option<(usize, usize)> {
    match target {
        Target::Local { subtask, channel } => Some((*subtask, *channel)),
        Target::Remote(_) => None,
    }
}

fn push(target: &Target, element: Element, local: &mut Vec<LocalElement>) {
    match target {
        Target::Local { subtask, channel } => local.push((*subtask, *channel, element)),
        Target::Remote(sender) => sender.push(element),
    }
}

impl EdgeOutput {
    fn send(
        &mut self,
        block: Block,
        hashes: &mut Vec<u64>,
        selection: &mut Selection,
        next: &mut usize,
        local: &mut Vec<LocalElement>,
    ) -> Result<()> {
        let mut block = block;
        match &self.route {
            Route::One => push(&self.targets[0], Element::Block(block), local),
            Route::Rebalance => {
                *next = (*next + 1) % self.targets.len();
                push(&self.targets[*next], Element::Block(block), local);
            }
            Route::Broadcast => {
                for target in &self.targets {
                    push(target, Element::Block(block.clone()), local);
                }
            }
            Route::HashFields(_) | Route::HashComputed if self.targets.len() == 1 => {
                push(&self.targets[0], Element::Block(block), local);
            }
            Route::HashFields(fields) => {
                let keys: Vec<_> = fields.iter().map(|&field| block.rows.column(field).clone()).collect();
                hash_rows(&keys, hashes)?;
                // A computed key of another edge of this port is of no use here.
                block.keys = None;
                self.scatter(&block, hashes, selection, local)?;
            }
            Route::HashComputed => {
                let keys = block
                    .keys
                    .clone()
                    .expect("the codec reads the key columns that the port declares");
                hash_rows(&keys, hashes)?;
                self.scatter(&block, hashes, selection, local)?;
            }
        }
        Ok(())
    }

    fn scatter(
        &self,
        block: &Block,
        hashes: &[u64],
        selection: &mut Selection,
        local: &mut Vec<LocalElement>,
    ) -> Result<()> {
        selection.assign(hashes, |hash| self.groups.subtask_of(hash), self.targets.len());
        for (receiver, target) in self.targets.iter().enumerate() {
            if let Some(part) = selection.part(block, receiver)? {
                push(target, Element::Block(part), local);
            }
        }
        Ok(())
    }
}
