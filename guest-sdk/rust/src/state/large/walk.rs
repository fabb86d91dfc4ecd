//! Going through a large map: the host's entries, piece by piece, with what the call has written in between.

use std::collections::VecDeque;
use std::ops::Bound;

use super::map::LargeMap;
use super::{PIECE, read_column, write_column};
use crate::abi::host;
use crate::position;
use crate::value::Owned;

/// Entries of a [`LargeMap`] in the order of their keys: what [`LargeMap::iter`] makes.
///
/// ```
/// use millrace::prelude::*;
/// use millrace::state::LargeMapIter;
/// fn skip_cheap(mut prices: LargeMapIter<'_, String, i64>) -> Option<(String, i64)> {
///     prices.find(|(_, price)| *price > 100)
/// }
/// ```
pub struct LargeMapIter<'m, K: Owned + Clone + Ord, V: Owned + Clone> {
    map: &'m LargeMap<K, V>,
    slot: u32,
    entry: u32,
    /// Entries of the host that were read and not yet given.
    read: VecDeque<(K, V)>,
    /// The last key that was read.
    read_upto: Option<K>,
    /// The host may have more.
    more: bool,
    piece: u32,
    /// What is given next is behind this.
    given: Bound<K>,
}

/// Where to begin.
pub(super) enum Start<K, V> {
    /// At the first entry.
    First,
    /// At this key, which has this value.
    Key(K, Option<V>),
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> std::fmt::Debug for LargeMapIter<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LargeMapIter")
    }
}

impl<'m, K: Owned + Clone + Ord, V: Owned + Clone> LargeMapIter<'m, K, V> {
    pub(super) fn new(map: &'m LargeMap<K, V>, start: Start<K, V>) -> Self {
        let mut iter = LargeMapIter {
            map,
            slot: position::slot(),
            entry: position::state_entry(),
            read: VecDeque::new(),
            read_upto: None,
            more: true,
            piece: *PIECE.start(),
            given: Bound::Unbounded,
        };
        if let Start::Key(key, value) = start {
            iter.read.extend(value.map(|value| (key.clone(), value)));
            iter.given = Bound::Included(key.clone());
            iter.read_upto = Some(key);
        }
        iter
    }

    fn read_piece(&mut self, state: u32) {
        let after = write_column(self.read_upto.clone());
        let (keys, values, more) = host::map_scan(state, self.entry, after, self.piece);
        let (keys, values) = (read_column::<K>(&keys), read_column::<V>(&values));
        self.read_upto = keys.back().cloned().or_else(|| self.read_upto.take());
        self.read.extend(keys.into_iter().zip(values));
        self.more = more && !self.read.is_empty();
        self.piece = (self.piece * 4).min(*PIECE.end());
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> Iterator for LargeMapIter<'_, K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            let mut cell = self.map.cell.borrow_mut();
            let state = cell.state;
            let map = cell.map(self.slot, self.entry);
            if map.cleared {
                self.read.clear();
                self.more = false;
            }
            if self.read.is_empty() && self.more {
                drop(cell);
                self.read_piece(state);
                continue;
            }
            let behind = map.known.range((self.given.as_ref(), Bound::Unbounded));
            let own = behind.into_iter().find(|(_, known)| known.written);
            let (key, value) = match (self.read.front(), own) {
                (None, None) => return None,
                (Some((read, _)), Some((own, known))) if own <= read => {
                    let own = (own.clone(), known.value.clone());
                    if own.0 == *read {
                        self.read.pop_front();
                    }
                    own
                }
                (None, Some((own, known))) => (own.clone(), known.value.clone()),
                (Some(_), _) => {
                    let (key, value) = self.read.pop_front()?;
                    (key, Some(value))
                }
            };
            self.given = Bound::Excluded(key.clone());
            if let Some(value) = value {
                return Some((key, value));
            }
        }
    }
}
