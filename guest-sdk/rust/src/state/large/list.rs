//! A list per key whose items live in the host.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::{Action, ErasedCollection, PIECE, Writes, read_column};
use crate::abi::host;
use crate::bindings::operators::CollectionWrites;
use crate::position;
use crate::state::State;
use crate::value::Owned;

/// A list per key for any number of items: they live in the host, in memory or on disk, and not in the pipeline's memory.
///
/// Items are added at the end, read by index or in order, and forgotten all together. A checkpoint holds the items that
/// were added since the last one. With a [time to live](crate::state::Ttl) each item has its own, and indexes count from the
/// first that has not expired when the block comes.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Line { session: i64, text: String, last: bool }
///
/// /// Holds back the lines of a session until the last has come, however many they are.
/// struct Sessions { lines: LargeList<Line> }
///
/// impl KeyedProcess for Sessions {
///     type In = Line;
///     type Key = i64;
///     type Out = Line;
///
///     fn process(&mut self, line: Line, cx: &mut Context<'_, Self>) {
///         let last = line.last;
///         self.lines.push(line);
///         if last {
///             for line in self.lines.iter() {
///                 cx.push(line);
///             }
///             self.lines.clear();
///         }
///     }
/// }
/// ```
pub struct LargeList<T: Owned + Clone> {
    cell: Rc<RefCell<ListCell<T>>>,
}

impl<T: Owned + Clone> std::fmt::Debug for LargeList<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LargeList")
    }
}

impl<T: Owned + Clone> State for LargeList<T> {
    fn place(&self) -> *const () {
        Rc::as_ptr(&self.cell).cast()
    }
}

/// What the call knows of the lists of its keys.
pub(crate) struct ListCell<T> {
    /// Number of the state.
    state: u32,
    /// By slot.
    lists: BTreeMap<u32, Overlay<T>>,
}

/// What the call knows of one list.
struct Overlay<T> {
    /// An entry of the call whose key's list it is.
    entry: u32,
    /// Everything that the host has was taken out.
    cleared: bool,
    /// Items that the host has, once it was asked.
    stored: Option<u64>,
    /// Items behind those.
    added: Vec<T>,
}

impl<T> Overlay<T> {
    /// Items that the host has and that are still there.
    fn stored(&mut self, state: u32) -> u64 {
        match self.cleared {
            true => 0,
            false => *self.stored.get_or_insert_with(|| host::list_length(state, self.entry)),
        }
    }
}

impl<T: Owned + Clone> ListCell<T> {
    fn list(&mut self, slot: u32, entry: u32) -> (u32, &mut Overlay<T>) {
        let list = self.lists.entry(slot).or_insert_with(|| Overlay {
            entry,
            cleared: false,
            stored: None,
            added: Vec::new(),
        });
        (self.state, list)
    }

    /// The list of the entry at hand.
    fn here(&mut self) -> (u32, &mut Overlay<T>) {
        let entry = position::state_entry();
        self.list(position::slot(), entry)
    }
}

impl<T: Owned + Clone> ErasedCollection for RefCell<ListCell<T>> {
    fn take_writes(&self) -> Option<CollectionWrites> {
        let mut cell = self.borrow_mut();
        if cell.lists.is_empty() {
            return None;
        }
        let mut writes = Writes::<u64, T>::new(cell.state, None);
        for list in std::mem::take(&mut cell.lists).into_values() {
            if list.cleared {
                writes.push(list.entry, Action::Clear, None, None);
            }
            for item in list.added {
                writes.push(list.entry, Action::Append, None, Some(item));
            }
        }
        writes.finish()
    }
}

impl<T: Owned + Clone> LargeList<T> {
    pub(crate) fn new(state: u32) -> (Self, Rc<RefCell<ListCell<T>>>) {
        let lists = BTreeMap::new();
        let cell = Rc::new(RefCell::new(ListCell { state, lists }));
        (LargeList { cell: Rc::clone(&cell) }, cell)
    }

    /// Adds an item at the end.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn remember(items: &LargeList<i64>, item: i64) { items.push(item); }
    /// ```
    pub fn push(&self, item: T) {
        self.cell.borrow_mut().here().1.added.push(item);
    }

    /// Number of items. The host is asked once for each key and block.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_full(items: &LargeList<i64>) -> bool { items.len() >= 1_000_000 }
    /// ```
    pub fn len(&self) -> u64 {
        let mut cell = self.cell.borrow_mut();
        let (state, list) = cell.here();
        list.stored(state) + list.added.len() as u64
    }

    /// Whether there are no items.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_new(items: &LargeList<i64>) -> bool { items.is_empty() }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Item `index`, copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn first(items: &LargeList<i64>) -> Option<i64> { items.get(0) }
    /// ```
    pub fn get(&self, index: u64) -> Option<T> {
        LargeListIter::new(self, index, 1).next()
    }

    /// Up to `count` items from an index on, copied.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn page(items: &LargeList<String>, page: u64) -> Vec<String> { items.read(page * 20, 20) }
    /// ```
    pub fn read(&self, start: u64, count: usize) -> Vec<T> {
        let piece = u32::try_from(count).unwrap_or(u32::MAX);
        LargeListIter::new(self, start, piece).take(count).collect()
    }

    /// All items in order, copied. They are read from the host in pieces, so that a list may have any number of them; mind
    /// that a call should be over within milliseconds. Items that are added meanwhile are seen.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn total(cents: &LargeList<i64>) -> i64 { cents.iter().sum() }
    /// ```
    pub fn iter(&self) -> LargeListIter<'_, T> {
        self.iter_from(0)
    }

    /// The items from an index on.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn last_ten(items: &LargeList<i64>) -> Vec<i64> { items.iter_from(items.len().saturating_sub(10)).collect() }
    /// ```
    pub fn iter_from(&self, index: u64) -> LargeListIter<'_, T> {
        LargeListIter::new(self, index, *PIECE.start())
    }

    /// Forgets all items. With checkpoints the host looks at each once more, for the next one has to say that they are gone:
    /// about half a second for a million.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn forget(items: &LargeList<i64>) { items.clear(); }
    /// ```
    pub fn clear(&self) {
        let mut cell = self.cell.borrow_mut();
        let (_, list) = cell.here();
        list.cleared = true;
        list.added.clear();
    }
}

/// Items of a [`LargeList`] in order: what [`LargeList::iter`] makes.
///
/// ```
/// use millrace::prelude::*;
/// use millrace::state::LargeListIter;
/// fn highest(items: LargeListIter<'_, i64>) -> Option<i64> { items.max() }
/// ```
pub struct LargeListIter<'l, T: Owned + Clone> {
    list: &'l LargeList<T>,
    slot: u32,
    entry: u32,
    /// Index of the next item.
    index: u64,
    /// Items of the host from there on that were read.
    read: VecDeque<T>,
    piece: u32,
}

impl<T: Owned + Clone> std::fmt::Debug for LargeListIter<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LargeListIter")
    }
}

impl<'l, T: Owned + Clone> LargeListIter<'l, T> {
    fn new(list: &'l LargeList<T>, index: u64, piece: u32) -> Self {
        LargeListIter {
            list,
            slot: position::slot(),
            entry: position::state_entry(),
            index,
            read: VecDeque::new(),
            piece,
        }
    }
}

impl<T: Owned + Clone> Iterator for LargeListIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let mut cell = self.list.cell.borrow_mut();
        let (state, list) = cell.list(self.slot, self.entry);
        let stored = list.stored(state);
        let item = match self.index.checked_sub(stored) {
            Some(added) => list.added.get(usize::try_from(added).ok()?)?.clone(),
            None => {
                if self.read.is_empty() {
                    self.read = read_column(&host::list_read(state, self.entry, self.index, self.piece));
                    self.piece = (self.piece.saturating_mul(4)).min(*PIECE.end());
                }
                self.read.pop_front()?
            }
        };
        self.index += 1;
        Some(item)
    }
}
