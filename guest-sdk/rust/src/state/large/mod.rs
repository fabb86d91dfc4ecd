//! Large maps and lists: the entries live in the host, here is what the call has read and written.
//!
//! A call sees what the host had when it began, with its own writes laid over it. What was read or written is kept for the
//! rest of the call, by slot of the key; at its end the writes leave, at most one for each entry however often it was
//! written, and everything is forgotten.

mod list;
mod map;
mod walk;

use std::collections::VecDeque;

pub use self::list::{LargeList, LargeListIter};
pub use self::map::LargeMap;
pub use self::walk::LargeMapIter;

use crate::bindings::operators::CollectionWrites;
use crate::block::{Block, BlockWriter};
use crate::chain::exit::to_contract;
use crate::value::{Builder, Owned};

/// Actions of writes, as the contract numbers them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Put = 0,
    Remove = 1,
    Append = 2,
    Clear = 3,
}

/// Entries that an iteration asks for at first, and at most; it asks for four times as many each time.
const PIECE: std::ops::RangeInclusive<u32> = 16..=1024;

/// A large state whose type is forgotten.
pub(crate) trait ErasedCollection {
    /// Ends the call: takes what it wrote, if anything, and forgets what it read.
    fn take_writes(&self) -> Option<CollectionWrites>;
}

/// Gathers the writes of a call.
pub(super) struct Writes<K: Owned, V: Owned> {
    state: u32,
    entries: Vec<u32>,
    actions: Vec<u8>,
    /// Of a list none.
    keys: Option<K::Builder>,
    values: V::Builder,
}

impl<K: Owned, V: Owned> Writes<K, V> {
    pub(super) fn new(state: u32, keys: Option<K::Builder>) -> Self {
        Writes {
            state,
            entries: Vec::new(),
            actions: Vec::new(),
            keys,
            values: V::Builder::default(),
        }
    }

    pub(super) fn push(&mut self, entry: u32, action: Action, key: Option<K>, value: Option<V>) {
        self.entries.push(entry);
        self.actions.push(action as u8);
        if let (Some(keys), Some(key)) = (&mut self.keys, key) {
            K::push(keys, key);
        }
        if let Some(value) = value {
            V::push(&mut self.values, value);
        }
    }

    pub(super) fn finish(mut self) -> Option<CollectionWrites> {
        if self.entries.is_empty() {
            return None;
        }
        let keys = self.keys.as_mut().map(finish_column);
        Some(CollectionWrites {
            state: self.state,
            entries: self.entries,
            actions: self.actions,
            keys: to_contract(keys.unwrap_or_else(|| BlockWriter::default().finish(0))),
            values: to_contract(finish_column(&mut self.values)),
        })
    }
}

fn finish_column(builder: &mut impl Builder) -> Block {
    let rows = builder.rows();
    let mut writer = BlockWriter::with_capacity(builder.bytes() + 64);
    builder.finish(&mut writer);
    writer.finish(rows)
}

/// A block of one column.
pub(crate) fn write_column<V: Owned>(values: impl IntoIterator<Item = V>) -> Block {
    let mut builder = V::Builder::default();
    values.into_iter().for_each(|value| V::push(&mut builder, value));
    finish_column(&mut builder)
}

/// The values of a block of one column.
pub(crate) fn read_column<V: Owned>(block: &Block) -> VecDeque<V> {
    let column = V::column(&mut block.buffers(), block.rows());
    (0..block.rows()).map(|row| V::get(&column, row)).collect()
}
