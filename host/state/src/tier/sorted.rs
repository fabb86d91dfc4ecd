//! Entries in the order of their keys, in the host's memory: a B+ tree whose nodes are copied when they are written to
//! while something else holds them.
//!
//! Freezing shares the root and costs nothing. As long as a frozen view lives, the first write to a leaf copies that leaf
//! and the few nodes above it; the rest stays shared. A leaf is one run of bytes, so that a copy is a copy of some
//! kilobytes and not of many small things.
//!
//! Entries that expire are looked for by a hand that goes through the tree, some at a time.

use std::ops::Range;
use std::sync::Arc;

use millrace_core::Result;
use millrace_core::backend::{ByteRows, FrozenSorted, FrozenTier, ScanRange, SortedTier, expiry_of};
use millrace_core::block::Millis;

/// A leaf with more entries, or more bytes, is divided.
const LEAF_ENTRIES_MAX: usize = if cfg!(test) { 4 } else { 128 };
const LEAF_BYTES_MAX: usize = 8 << 10;

/// A node with more children is divided.
const CHILDREN_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// Entries that the hand looks at in one go.
const LOOKED_AT: usize = if cfg!(test) { 7 } else { 4096 };

/// See the module's documentation.
#[derive(Debug)]
pub struct SortedMemoryTier {
    root: Arc<Node>,
    len: u64,
    /// Of entries that expire.
    expiry: Option<Expiry>,
}

impl Default for SortedMemoryTier {
    fn default() -> Self {
        SortedMemoryTier {
            root: Arc::new(Node::Leaf(Leaf::default())),
            len: 0,
            expiry: None,
        }
    }
}

/// How far the hand is, and when there is something for it to find.
#[derive(Debug)]
struct Expiry {
    /// The key that it comes to next, while it is under way.
    next: Option<Vec<u8>>,
    /// No entry that was put, or passed by the hand, since it began expires earlier.
    earliest: Millis,
}

#[derive(Debug, Clone)]
enum Node {
    Leaf(Leaf),
    Inner(Vec<Child>),
}

/// A node with where it begins: no key in it is less than `first`, and none in those before it is as great.
#[derive(Debug, Clone)]
struct Child {
    first: Arc<[u8]>,
    node: Arc<Node>,
}

/// Keys and values one after the other, in the order of keys.
#[derive(Debug, Clone, Default)]
struct Leaf {
    bytes: Vec<u8>,
    /// Where each key and each value ends.
    ends: Vec<[u32; 2]>,
}

impl Leaf {
    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1][1] as usize }
    }

    fn key(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at][0] as usize]
    }

    fn value(&self, at: usize) -> &[u8] {
        let [start, end] = self.ends[at];
        &self.bytes[start as usize..end as usize]
    }

    /// Where a key is, or would be.
    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Moves what is behind an entry, whose bytes became others.
    fn shift(&mut self, from: usize, by: i64) {
        for end in self.ends[from..].iter_mut().flatten() {
            *end = (i64::from(*end) + by) as u32;
        }
    }

    /// Sets an entry; whether it is new.
    fn set(&mut self, key: &[u8], value: &[u8]) -> bool {
        match self.find(key) {
            Ok(at) => {
                let [start, end] = self.ends[at].map(|end| end as usize);
                self.bytes.splice(start..end, value.iter().copied());
                let by = value.len() as i64 - (end - start) as i64;
                self.ends[at][1] = (start + value.len()) as u32;
                self.shift(at + 1, by);
                false
            }
            Err(at) => {
                let start = self.start(at);
                let entry = key.iter().chain(value).copied();
                self.bytes.splice(start..start, entry);
                let key_end = start + key.len();
                self.ends.insert(at, [key_end as u32, (key_end + value.len()) as u32]);
                self.shift(at + 1, (key.len() + value.len()) as i64);
                true
            }
        }
    }

    fn remove(&mut self, entries: Range<usize>) {
        let bytes = self.start(entries.start)..self.start(entries.end);
        let by = bytes.len() as i64;
        let at = entries.start;
        self.bytes.drain(bytes);
        self.ends.drain(entries);
        self.shift(at, -by);
        if self.bytes.capacity() > 4 * self.bytes.len().max(256) {
            self.bytes.shrink_to(2 * self.bytes.len());
        }
    }

    fn is_full(&self) -> bool {
        let many = self.ends.len() > LEAF_ENTRIES_MAX || self.bytes.len() > LEAF_BYTES_MAX;
        many && self.ends.len() > 1
    }

    /// Cuts off the half behind.
    fn split(&mut self) -> Leaf {
        let half = self.bytes.len() / 2;
        let at = self.ends.partition_point(|end| (end[1] as usize) <= half);
        let at = at.clamp(1, self.ends.len() - 1);
        let start = self.start(at);
        let mut behind = Leaf {
            bytes: self.bytes.split_off(start),
            ends: self.ends.split_off(at),
        };
        behind.shift(0, -(start as i64));
        behind
    }

    fn append(&mut self, behind: &Leaf) {
        let (at, by) = (self.ends.len(), self.bytes.len());
        self.bytes.extend_from_slice(&behind.bytes);
        self.ends.extend_from_slice(&behind.ends);
        self.shift(at, by as i64);
    }
}

/// The child that has a key, or would have.
fn child_of(children: &[Child], key: &[u8]) -> usize {
    let behind = children.partition_point(|child| *child.first <= *key);
    behind.saturating_sub(1)
}

impl Node {
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        match self {
            Node::Leaf(leaf) => leaf.find(key).ok().map(|at| leaf.value(at)),
            Node::Inner(children) => children[child_of(children, key)].node.get(key),
        }
    }

    /// Sets an entry; whether it is new. What was cut off because the node was full comes behind it.
    fn set(node: &mut Arc<Node>, key: &[u8], value: &[u8]) -> (bool, Option<Child>) {
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => {
                let new = leaf.set(key, value);
                let behind = leaf.is_full().then(|| {
                    let behind = leaf.split();
                    Child {
                        first: behind.key(0).into(),
                        node: Arc::new(Node::Leaf(behind)),
                    }
                });
                (new, behind)
            }
            Node::Inner(children) => {
                let at = child_of(children, key);
                if *key < *children[at].first {
                    children[at].first = key.into();
                }
                let (new, behind) = Node::set(&mut children[at].node, key, value);
                children.splice(at + 1..at + 1, behind);
                let behind = (children.len() > CHILDREN_MAX).then(|| {
                    let behind = children.split_off(children.len() / 2);
                    Child {
                        first: behind[0].first.clone(),
                        node: Arc::new(Node::Inner(behind)),
                    }
                });
                (new, behind)
            }
        }
    }

    /// Takes out an entry that is there.
    fn remove(node: &mut Arc<Node>, key: &[u8]) {
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => {
                if let Ok(at) = leaf.find(key) {
                    leaf.remove(at..at + 1);
                }
            }
            Node::Inner(children) => {
                let at = child_of(children, key);
                Node::remove(&mut children[at].node, key);
                if children[at].node.size() == 0 {
                    children.remove(at);
                } else if children[at].node.size() <= LEAF_ENTRIES_MAX.min(CHILDREN_MAX) / 4 {
                    join_some(children, at.saturating_sub(1)..(at + 2).min(children.len()));
                }
            }
        }
    }

    /// Takes out the entries of a range; how many there were. Nodes that are in it as a whole are cut off.
    fn remove_range(node: &mut Arc<Node>, from: &[u8], to: &[u8]) -> u64 {
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => {
                let [first, end] = [from, to].map(|key| leaf.find(key).unwrap_or_else(|at| at));
                leaf.remove(first..end);
                (end - first) as u64
            }
            Node::Inner(children) => {
                let first = child_of(children, from);
                let end = children.partition_point(|child| *child.first < *to);
                if end <= first {
                    return 0;
                }
                let whole = (first + 1).min(end - 1)..end - 1;
                let mut removed = children.drain(whole).map(|child| child.node.entries()).sum();
                let last = first + 1 + usize::from(end - first > 1);
                for child in &mut children[first..last] {
                    removed += Node::remove_range(&mut child.node, from, to);
                }
                children.retain(|child| child.node.size() > 0);
                join_some(children, first.saturating_sub(1)..last.min(children.len()));
                removed
            }
        }
    }

    /// How many entries are in it.
    fn entries(&self) -> u64 {
        match self {
            Node::Leaf(leaf) => leaf.ends.len() as u64,
            Node::Inner(children) => children.iter().map(|child| child.node.entries()).sum(),
        }
    }

    /// Entries or children.
    fn size(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.ends.len(),
            Node::Inner(children) => children.len(),
        }
    }

    /// Whether what is in another node has room in this one, with some to spare.
    fn has_room_for(&self, behind: &Node) -> bool {
        match (self, behind) {
            (Node::Leaf(leaf), Node::Leaf(behind)) => {
                leaf.ends.len() + behind.ends.len() <= LEAF_ENTRIES_MAX / 2
                    && leaf.bytes.len() + behind.bytes.len() <= LEAF_BYTES_MAX / 2
            }
            (Node::Inner(children), Node::Inner(behind)) => children.len() + behind.len() <= CHILDREN_MAX / 2,
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => false,
        }
    }

    /// Adds entries of a range that are not before its start; whether there is one behind the last that was added.
    fn scan(&self, range: &ScanRange<'_>, keys: &mut ByteRows, values: &mut ByteRows, bytes: &mut usize) -> Scanned {
        match self {
            Node::Leaf(leaf) => {
                let first = leaf.find(range.from).unwrap_or_else(|at| at);
                for at in first..leaf.ends.len() {
                    let (key, value) = (leaf.key(at), leaf.value(at));
                    if key >= range.to {
                        return Scanned::All;
                    }
                    if keys.len() >= range.limit || (*bytes >= range.bytes_max && !keys.is_empty()) {
                        return Scanned::Some;
                    }
                    *bytes += key.len() + value.len();
                    keys.push(key);
                    values.push(value);
                }
                Scanned::Here
            }
            Node::Inner(children) => {
                for child in &children[child_of(children, range.from)..] {
                    match child.node.scan(range, keys, values, bytes) {
                        Scanned::Here => {}
                        done @ (Scanned::All | Scanned::Some) => return done,
                    }
                }
                Scanned::Here
            }
        }
    }

    /// The greatest key below `to`.
    fn last(&self, to: &[u8]) -> Option<&[u8]> {
        match self {
            Node::Leaf(leaf) => {
                let behind = leaf.find(to).unwrap_or_else(|at| at);
                Some(leaf.key(behind.checked_sub(1)?))
            }
            Node::Inner(children) => {
                let upto = children[..=child_of(children, to)].iter().rev();
                upto.filter_map(|child| child.node.last(to)).next()
            }
        }
    }
}

/// How far a scan has come.
enum Scanned {
    /// To the end of the node.
    Here,
    /// To the end of the range.
    All,
    /// To as many as were wanted; there are more.
    Some,
}

/// Joins the first two neighbours among these children that have room for each other.
fn join_some(children: &mut Vec<Child>, among: Range<usize>) {
    let pairs = among.start..among.end.saturating_sub(1);
    let Some(at) = pairs
        .into_iter()
        .find(|&at| children[at].node.has_room_for(&children[at + 1].node))
    else {
        return;
    };
    let behind = children.remove(at + 1);
    match (Arc::make_mut(&mut children[at].node), behind.node.as_ref()) {
        (Node::Leaf(leaf), Node::Leaf(behind)) => leaf.append(behind),
        (Node::Inner(inner), Node::Inner(behind)) => inner.extend_from_slice(behind),
        (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
            unreachable!("all leaves are equally deep")
        }
    }
}

impl SortedMemoryTier {
    /// For entries that expire: their values begin with when they do.
    pub fn expiring() -> Self {
        SortedMemoryTier {
            expiry: Some(Expiry {
                next: None,
                earliest: Millis::MAX,
            }),
            ..SortedMemoryTier::default()
        }
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        if let Some(expiry) = &mut self.expiry {
            expiry.earliest = expiry.earliest.min(expiry_of(value));
        }
        let (new, behind) = Node::set(&mut self.root, key, value);
        self.len += u64::from(new);
        if let Some(behind) = behind {
            let first = Child {
                first: Arc::from([]),
                node: self.root.clone(),
            };
            self.root = Arc::new(Node::Inner(vec![first, behind]));
        }
    }

    fn take(&mut self, key: &[u8]) {
        if self.root.get(key).is_none() {
            return;
        }
        self.len -= 1;
        Node::remove(&mut self.root, key);
        self.lower_root();
    }

    /// Gives up roots that have one child, or none.
    fn lower_root(&mut self) {
        loop {
            let only = match self.root.as_ref() {
                Node::Inner(children) if children.is_empty() => Arc::new(Node::Leaf(Leaf::default())),
                Node::Inner(children) if children.len() == 1 => children[0].node.clone(),
                Node::Inner(_) | Node::Leaf(_) => return,
            };
            self.root = only;
        }
    }
}

/// Shows entries from a key on, as many as there are to be; whether there are more.
fn look_at(node: &Node, from: &[u8], left: &mut usize, each: &mut dyn FnMut(&[u8], &[u8])) -> bool {
    match node {
        Node::Leaf(leaf) => {
            let first = leaf.find(from).unwrap_or_else(|at| at);
            let end = leaf.ends.len().min(first + *left);
            (first..end).for_each(|at| each(leaf.key(at), leaf.value(at)));
            *left -= end - first;
            end < leaf.ends.len()
        }
        Node::Inner(children) => {
            let mut rest = children[child_of(children, from)..].iter();
            rest.any(|child| look_at(&child.node, from, left, each))
        }
    }
}

fn look_up(root: &Node, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) {
    found.clear();
    values.clear();
    for key in keys.iter() {
        let value = root.get(key);
        found.push(value.is_some());
        values.push(value.unwrap_or(&[]));
    }
}

impl SortedTier for SortedMemoryTier {
    fn get(&mut self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        look_up(&self.root, keys, found, values);
        Ok(())
    }

    fn scan(&mut self, range: &ScanRange<'_>, keys: &mut ByteRows, values: &mut ByteRows) -> Result<bool> {
        keys.clear();
        values.clear();
        let scanned = self.root.scan(range, keys, values, &mut 0);
        Ok(matches!(scanned, Scanned::Some))
    }

    fn last(&mut self, from: &[u8], to: &[u8], key: &mut Vec<u8>) -> Result<bool> {
        key.clear();
        let Some(last) = self.root.last(to).filter(|last| *last >= from) else {
            return Ok(false);
        };
        key.extend_from_slice(last);
        Ok(true)
    }

    fn put(&mut self, keys: &ByteRows, values: &ByteRows) -> Result<()> {
        for (key, value) in keys.iter().zip(values.iter()) {
            self.set(key, value);
        }
        Ok(())
    }

    fn remove(&mut self, keys: &ByteRows) -> Result<()> {
        for key in keys.iter() {
            self.take(key);
        }
        Ok(())
    }

    fn remove_range(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        if from < to {
            self.len -= Node::remove_range(&mut self.root, from, to);
            self.lower_root();
        }
        Ok(())
    }

    fn expire(&mut self, now: Millis) -> Result<Option<Millis>> {
        let Some(expiry) = &mut self.expiry else {
            return Ok(None);
        };
        let due = |earliest: Millis| Some(earliest).filter(|earliest| *earliest < Millis::MAX);
        if expiry.next.is_none() {
            if expiry.earliest > now {
                return Ok(due(expiry.earliest));
            }
            expiry.earliest = Millis::MAX;
        }
        let from = expiry.next.take().unwrap_or_default();
        let (mut expired, mut last) = (ByteRows::default(), Vec::new());
        let more = look_at(&self.root, &from, &mut LOOKED_AT.clone(), &mut |key, value| {
            match expiry_of(value) {
                expires if expires <= now => expired.push(key),
                expires => expiry.earliest = expiry.earliest.min(expires),
            }
            last.clear();
            last.extend_from_slice(key);
        });
        // The least of all that is greater.
        last.push(0);
        expiry.next = more.then_some(last);
        let next = if more { Some(now) } else { due(expiry.earliest) };
        self.remove(&expired)?;
        Ok(next)
    }

    fn freeze(&mut self) -> Result<Arc<dyn FrozenSorted>> {
        Ok(Arc::new(Frozen(self.root.clone())))
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The tree as it was.
#[derive(Debug)]
struct Frozen(Arc<Node>);

impl FrozenTier for Frozen {
    fn scan(&self, limit: usize, each: &mut dyn FnMut(&ByteRows, &ByteRows) -> Result<()>) -> Result<()> {
        let (mut keys, mut values) = (ByteRows::default(), ByteRows::default());
        each_leaf(&self.0, &mut |leaf| {
            for at in 0..leaf.ends.len() {
                keys.push(leaf.key(at));
                values.push(leaf.value(at));
                if keys.len() == limit {
                    each(&keys, &values)?;
                    keys.clear();
                    values.clear();
                }
            }
            Ok(())
        })?;
        match keys.is_empty() {
            true => Ok(()),
            false => each(&keys, &values),
        }
    }
}

fn each_leaf(node: &Node, each: &mut dyn FnMut(&Leaf) -> Result<()>) -> Result<()> {
    match node {
        Node::Leaf(leaf) => each(leaf),
        Node::Inner(children) => children.iter().try_for_each(|child| each_leaf(&child.node, each)),
    }
}

impl FrozenSorted for Frozen {
    fn get(&self, keys: &ByteRows, found: &mut Vec<bool>, values: &mut ByteRows) -> Result<()> {
        look_up(&self.0, keys, found, values);
        Ok(())
    }
}
