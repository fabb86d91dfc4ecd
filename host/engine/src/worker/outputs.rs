//! Where a subtask's rows go: for each output port the edges, for each edge the channels.
//!
//! Local receivers (same slot) get elements through the slot loop, which collects them from
//! [`Outputs::take_local`] after each step; others through bounded queues. Nothing here waits: the loop asks
//! [`Outputs::has_room`] before a step.

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use millrace_core::Result;
use millrace_core::block::{Block, Element, Millis};
use millrace_core::checkpoint::CheckpointId;
use millrace_core::key::{KeyGroups, hash_rows};
use millrace_core::random::SplitMix64;
use millrace_net::partition::Selection;
use millrace_net::queue::Sender;

/// One channel.
pub(crate) enum Target {
    /// Subtask of the same slot, by position, and its channel.
    Local { subtask: usize, channel: usize },
    /// Another slot.
    Remote(Sender),
}

impl Target {
    fn has_room(&self) -> bool {
        match self {
            Target::Local { .. } => true,
            Target::Remote(sender) => sender.has_room(),
        }
    }
}

/// How an edge picks receivers.
pub(crate) enum Route {
    /// The first target gets all rows: forward, or global; watermarks go to all targets.
    One,
    /// By key group of columns.
    HashFields(Vec<usize>),
    /// By key group of the computed key.
    HashComputed,
    /// Block by block in turn, past those without room.
    Rebalance,
    /// Row by row, drawn by lot.
    Shuffle(SplitMix64),
    /// By the number that was computed.
    Numbered,
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

    /// Whether the queues can take what a step puts out.
    pub(crate) fn has_room(&self) -> bool {
        self.edges.iter().all(|edge| match edge.route {
            Route::Rebalance => edge.targets.iter().any(Target::has_room),
            Route::One
            | Route::HashFields(_)
            | Route::HashComputed
            | Route::Shuffle(_)
            | Route::Numbered
            | Route::Broadcast => edge.targets.iter().all(Target::has_room),
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
        match &mut self.route {
            Route::One => push(&self.targets[0], Element::Block(block), local),
            Route::Rebalance => {
                let count = self.targets.len();
                let turns = (1..=count).map(|step| (*next + step) % count);
                let open = turns.clone().find(|&turn| self.targets[turn].has_room());
                *next = open.unwrap_or((*next + 1) % count);
                push(&self.targets[*next], Element::Block(block), local);
            }
            Route::Shuffle(_) | Route::Numbered if self.targets.len() == 1 => {
                block.keys = None;
                push(&self.targets[0], Element::Block(block), local);
            }
            Route::Shuffle(lots) => {
                hashes.clear();
                hashes.extend((0..block.row_count()).map(|_| lots.draw()));
                let count = self.targets.len() as u64;
                // The upper half of a lot, scaled to the number of receivers.
                let receiver = |lot: u64| (((lot >> 32) * count) >> 32) as u32;
                self.scatter(&block, hashes, selection, local, receiver)?;
            }
            Route::Numbered => {
                let keys = block.keys.take();
                let keys = keys.expect("the codec reads the key columns that the port declares");
                hashes.clear();
                hashes.extend(
                    keys[0]
                        .as_primitive::<UInt32Type>()
                        .values()
                        .iter()
                        .map(|&number| u64::from(number)),
                );
                let count = self.targets.len() as u64;
                self.scatter(&block, hashes, selection, local, |number| (number % count) as u32)?;
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
                self.scatter(&block, hashes, selection, local, |hash| self.groups.subtask_of(hash))?;
            }
            Route::HashComputed => {
                let keys = block
                    .keys
                    .clone()
                    .expect("the codec reads the key columns that the port declares");
                hash_rows(&keys, hashes)?;
                self.scatter(&block, hashes, selection, local, |hash| self.groups.subtask_of(hash))?;
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
        receiver_of: impl Fn(u64) -> u32,
    ) -> Result<()> {
        selection.assign(hashes, receiver_of, self.targets.len());
        for (receiver, target) in self.targets.iter().enumerate() {
            if let Some(part) = selection.part(block, receiver)? {
                push(target, Element::Block(part), local);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use millrace_net::queue::{self, QUEUE_ELEMENTS_MAX, Receiver, Sleeper};

    use super::*;

    fn block(value: i64) -> Block {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        Block::new(RecordBatch::try_from_iter([("value", column)]).expect("one column"))
    }

    fn outputs(route: Route, receivers: usize) -> (Outputs, Vec<Receiver>) {
        let channels = (0..receivers).map(|_| queue::channel(Sleeper::default(), Sleeper::default()));
        let (senders, receiving): (Vec<_>, Vec<_>) = channels.unzip();
        let edge = EdgeOutput {
            port: 0,
            route,
            targets: senders.into_iter().map(Target::Remote).collect(),
            groups: KeyGroups::new(receivers as u32, 128),
        };
        (Outputs::new(vec![edge]), receiving)
    }

    fn drain(receiver: &mut Receiver) -> usize {
        std::iter::from_fn(|| receiver.pop()).count()
    }

    #[test]
    fn who_cannot_keep_up_is_passed_over() {
        let (mut outputs, mut receivers) = outputs(Route::Rebalance, 3);
        // The second takes nothing, the others all that comes.
        let mut taken = [0, 0];
        for value in 0..300 {
            assert!(outputs.has_room(), "{value}");
            outputs.emit(0, block(value)).expect("a block");
            taken[0] += drain(&mut receivers[0]);
            taken[1] += drain(&mut receivers[2]);
        }
        assert_eq!(drain(&mut receivers[1]), QUEUE_ELEMENTS_MAX);
        assert_eq!(taken[0] + taken[1] + QUEUE_ELEMENTS_MAX, 300);
        assert!(taken[0].abs_diff(taken[1]) <= QUEUE_ELEMENTS_MAX + 1, "{taken:?}");
        // Nobody takes anything.
        (0..3 * QUEUE_ELEMENTS_MAX as i64).for_each(|value| outputs.emit(0, block(value)).expect("a block"));
        assert!(!outputs.has_room());
    }

    #[test]
    fn a_queue_that_must_take_its_share_holds_up_all() {
        let (mut outputs, _receivers) = outputs(Route::Broadcast, 2);
        (0..QUEUE_ELEMENTS_MAX as i64).for_each(|value| outputs.emit(0, block(value)).expect("a block"));
        assert!(!outputs.has_room());
    }
}
