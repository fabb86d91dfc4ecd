//! Time to live of the entries of a large state: each has its own.
//!
//! ```text
//! value   when it expires (8 bytes, see `expiry_bytes`) | value or item
//! ```
//!
//! What has expired when a call begins is not there for it. What the call reads is noted, and renewed when the call is
//! applied; what it writes begins its time then. Expired entries go when the tier sees to it: by compaction, or by a hand
//! that this has go round (`sweep_some`).
//!
//! Items of a list are counted from the first that has not expired, so a list is looked at before it is read: which runs
//! of items live. They are remembered for the call, so that no index changes within one. Looking goes through the whole
//! list, unless it is known to be *in order*: its items expire in the order of their indexes, and none is missing between
//! those that live. Then it is one run, whose ends are searched for. A list gets there when it is looked through, or when
//! it begins; where items are renewed by reading, never.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use millrace_core::Result;
use millrace_core::backend::{ByteRows, EXPIRY_BYTES, ScanRange, expiry_bytes, expiry_of};
use millrace_core::block::Millis;
use millrace_core::graph::{Renewal, TimeToLive};

use super::codec::index_of;
use super::{Collection, HostCollections, behind, note};
use crate::keyed::lifetimes::{FOREVER, READ_PART};
use crate::keyed::sweep::Sweep;

/// Entries that are looked at at a time.
const LOOKED_AT: usize = if cfg!(test) { 3 } else { 4096 };

/// Lists known to be in order; if there are more, all are forgotten.
const IN_ORDER_MAX: usize = 1 << 16;

/// Where the items of a list are that live: runs of indexes, in order.
pub(super) type Runs = Rc<[Range<u64>]>;

/// A value or item, of the bytes that a tier has of it.
pub(super) fn value_of(bytes: &[u8]) -> &[u8] {
    bytes.get(EXPIRY_BYTES..).unwrap_or_default()
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Expiry {
    after: Millis,
    /// How much later a read must make an entry expire to count; `None`: reads do not count.
    read_gain: Option<Millis>,
    pub(super) now: Millis,
    /// What the call under way has read and is to be renewed, with values as they are to be put.
    read_keys: ByteRows,
    read_values: ByteRows,
    /// The lists that the call has looked at.
    looked_at: BTreeMap<Box<[u8]>, Runs>,
    in_order: BTreeSet<Box<[u8]>>,
    keys: ByteRows,
    values: ByteRows,
}

impl Expiry {
    pub(super) fn new(ttl: TimeToLive) -> Self {
        let gain = (ttl.after_ms / READ_PART).max(1);
        Expiry {
            after: ttl.after_ms,
            read_gain: (ttl.renewed_by == Renewal::ReadOrWrite).then_some(gain),
            now: Millis::MIN,
            read_keys: ByteRows::default(),
            read_values: ByteRows::default(),
            looked_at: BTreeMap::new(),
            in_order: BTreeSet::new(),
            keys: ByteRows::default(),
            values: ByteRows::default(),
        }
    }

    /// Another call begins, or none was made: what the last one has read does not count.
    pub(super) fn begin_call(&mut self) {
        self.read_keys.clear();
        self.read_values.clear();
        self.looked_at.clear();
    }

    /// When what is written now expires.
    pub(super) fn renewed(&self) -> Millis {
        self.now.saturating_add(self.after)
    }

    /// The value of an entry that is read now, unless it has expired.
    fn read<'v>(&mut self, key: &[u8], bytes: &'v [u8]) -> Option<&'v [u8]> {
        let expires = expiry_of(bytes);
        if expires <= self.now {
            return None;
        }
        let value = value_of(bytes);
        let renewed = self.renewed();
        if self.read_gain.is_some_and(|gain| expires <= renewed - gain) {
            self.read_keys.push(key);
            push_value(&mut self.read_values, Some(renewed), value);
        }
        Some(value)
    }

    /// Items of this list expire in order from now on, unless they are renewed by reading.
    pub(super) fn note_in_order(&mut self, key: &[u8]) {
        if self.read_gain.is_some() || self.in_order.contains(key) {
            return;
        }
        if self.in_order.len() == IN_ORDER_MAX {
            self.in_order.clear();
        }
        self.in_order.insert(key.into());
    }
}

/// Adds the bytes that a tier has of a value.
pub(super) fn push_value(values: &mut ByteRows, expires: Option<Millis>, value: &[u8]) {
    values.push_with(|bytes| {
        bytes.extend(expires.map(expiry_bytes).iter().flatten());
        bytes.extend_from_slice(value);
    });
}

impl Collection {
    /// Leaves of what was looked up, `found` and `values`, what has not expired, without when it does.
    pub(super) fn leave_live(&mut self) {
        let Some(expiry) = &mut self.expiry else { return };
        expiry.values.clear();
        for (row, found) in self.found.iter_mut().enumerate() {
            let value = match found {
                true => expiry.read(self.keys.get(row), self.values.get(row)),
                false => None,
            };
            *found = value.is_some();
            expiry.values.push(value.unwrap_or_default());
        }
        std::mem::swap(&mut self.values, &mut expiry.values);
    }

    /// Gets entries of a key from a bound on that have not expired; whether there may be more.
    pub(super) fn scan_live(&mut self, key: &[u8], from: &[u8], limit: usize, bytes_max: usize) -> Result<bool> {
        let Some(expiry) = &mut self.expiry else {
            return self.scan(key, from, limit, bytes_max);
        };
        let Collection { tier, keys, values, .. } = self;
        let (mut from, to) = (from.to_vec(), behind(key));
        let (mut piece, mut bytes) = (limit, 0);
        keys.clear();
        values.clear();
        loop {
            let range = ScanRange {
                from: &from,
                to: &to,
                limit: piece,
                bytes_max,
            };
            let (mut read_keys, mut read_values) =
                (std::mem::take(&mut expiry.keys), std::mem::take(&mut expiry.values));
            let more = tier.scan(&range, &mut read_keys, &mut read_values)?;
            for (entry, stored) in read_keys.iter().zip(read_values.iter()) {
                if keys.len() >= limit || (bytes >= bytes_max && !keys.is_empty()) {
                    return Ok(true);
                }
                if let Some(value) = expiry.read(entry, stored) {
                    bytes += entry.len() + value.len();
                    keys.push(entry);
                    values.push(value);
                }
            }
            if !more || read_keys.is_empty() {
                return Ok(false);
            }
            // The least of all that is greater.
            from = [read_keys.get(read_keys.len() - 1), &[0]].concat();
            piece = LOOKED_AT;
            (expiry.keys, expiry.values) = (read_keys, read_values);
        }
    }

    /// Whether a key has an entry that has not expired. Nothing is renewed by this.
    pub(super) fn has_live(&mut self, key: &[u8]) -> Result<bool> {
        let Some(now) = self.expiry.as_ref().map(|expiry| expiry.now) else {
            return Ok(true);
        };
        let (mut from, mut more) = (key.to_vec(), true);
        while more {
            more = self.scan(key, &from, LOOKED_AT, usize::MAX)?;
            if self.values.iter().any(|value| expiry_of(value) > now) {
                return Ok(true);
            }
            if let Some(last) = self.keys.len().checked_sub(1) {
                // The least of all that is greater.
                from = [self.keys.get(last), &[0]].concat();
            }
        }
        Ok(false)
    }

    /// Which items of a list live: all, where none expires.
    pub(super) fn live_items(&mut self, key: &[u8]) -> Result<Runs> {
        let Some(expiry) = &self.expiry else {
            let end = self.next_index(key)?;
            return Ok(std::iter::once(0..end).collect());
        };
        if let Some(known) = expiry.looked_at.get(key) {
            return Ok(known.clone());
        }
        let in_order = expiry.in_order.contains(key);
        let runs: Runs = match in_order {
            true => self.ends_in_order(key)?.into_iter().collect(),
            false => self.look_through(key)?.into(),
        };
        if let Some(expiry) = &mut self.expiry {
            expiry.looked_at.insert(key.into(), runs.clone());
        }
        Ok(runs)
    }

    /// The run of items that live, of a list in order.
    fn ends_in_order(&mut self, key: &[u8]) -> Result<Option<Range<u64>>> {
        self.scan(key, key, 1, usize::MAX)?;
        if self.keys.is_empty() {
            return Ok(None);
        }
        let now = self.expiry.as_ref().map_or(Millis::MIN, |expiry| expiry.now);
        let end = self.next_index(key)?;
        let mut first = index_of(self.keys.get(0))?;
        if expiry_of(self.values.get(0)) <= now {
            // Those that are missing have expired.
            let (mut low, mut high) = (first + 1, end);
            while low < high {
                let middle = low + (high - low) / 2;
                self.begin_puts();
                self.keys.push(&[key, &middle.to_be_bytes()].concat());
                self.tier.get(&self.keys, &mut self.found, &mut self.values)?;
                match self.found[0] && expiry_of(self.values.get(0)) > now {
                    true => high = middle,
                    false => low = middle + 1,
                }
            }
            first = low;
        }
        Ok((first < end).then_some(first..end))
    }

    /// The runs of items that live, of any list.
    fn look_through(&mut self, key: &[u8]) -> Result<Vec<Range<u64>>> {
        let now = self.expiry.as_ref().map_or(Millis::MIN, |expiry| expiry.now);
        let mut runs: Vec<Range<u64>> = Vec::new();
        let (mut last, mut ascends) = (Millis::MIN, true);
        let (mut from, mut more) = (key.to_vec(), true);
        while more {
            more = self.scan(key, &from, LOOKED_AT, usize::MAX)?;
            for (entry, stored) in self.keys.iter().zip(self.values.iter()) {
                let (index, expires) = (index_of(entry)?, expiry_of(stored));
                ascends &= last <= expires;
                last = expires;
                match runs.last_mut() {
                    _ if expires <= now => {}
                    Some(run) if run.end == index => run.end += 1,
                    Some(_) | None => runs.push(index..index + 1),
                }
            }
            if let Some(entry) = self.keys.len().checked_sub(1) {
                from = [self.keys.get(entry), &[0]].concat();
            }
        }
        if let Some(expiry) = &mut self.expiry
            && ascends
            && runs.len() <= 1
            && last <= expiry.renewed()
        {
            expiry.note_in_order(key);
        }
        Ok(runs)
    }

    /// Renews what the call has read; whether there was something. Before its writes, which begin their own time.
    pub(super) fn renew(&mut self) -> Result<bool> {
        let Some(expiry) = &mut self.expiry else {
            return Ok(false);
        };
        let renews = !expiry.read_keys.is_empty();
        if renews {
            self.tier.put(&expiry.read_keys, &expiry.read_values)?;
            note(&mut self.tracking, &expiry.read_keys);
        }
        expiry.begin_call();
        Ok(renews)
    }
}

/// Where the item of an index is, and whether there is one.
pub(super) fn place_of(runs: &[Range<u64>], index: u64) -> Option<u64> {
    let mut left = index;
    for run in runs {
        let items = run.end - run.start;
        if left < items {
            return Some(run.start + left);
        }
        left -= items;
    }
    None
}

/// Having tiers look for what has expired, of all states of an operator.
#[derive(Debug)]
pub(super) struct Expiring {
    now: Millis,
    sweep: Sweep,
}

impl Expiring {
    /// If some state has a time to live.
    pub(super) fn of(states: &[Collection]) -> Option<Self> {
        let lifetimes = states.iter().filter_map(|state| state.expiry.as_ref());
        let least = lifetimes.map(|expiry| expiry.after).min()?;
        Some(Expiring {
            now: Millis::MIN,
            sweep: Sweep::new(least),
        })
    }

    /// Something expires then.
    pub(super) fn meet(&mut self, expires: Millis) {
        self.sweep.meet(expires);
    }
}

impl HostCollections {
    /// It is this time to the calls that follow, and to what is restored. Time does not go back.
    pub(in crate::keyed) fn set_now(&mut self, now: Millis) {
        let Some(expiring) = &mut self.expiring else { return };
        expiring.now = expiring.now.max(now);
        for expiry in self.states.iter_mut().filter_map(|state| state.expiry.as_mut()) {
            expiry.now = expiring.now;
        }
    }

    /// It is this time: the next firing makes a step if one is due.
    pub(in crate::keyed) fn handle_time(&mut self, now: Millis) {
        if let Some(expiring) = &mut self.expiring {
            expiring.now = expiring.now.max(now);
            expiring.sweep.handle_time(expiring.now);
        }
    }

    /// When a step is to be made.
    pub(in crate::keyed) fn next_sweep(&self) -> Option<Millis> {
        let expiring = self.expiring.as_ref()?;
        expiring.sweep.next(expiring.now)
    }

    /// Makes a step, if one was asked for; whether it was.
    pub(in crate::keyed) fn sweep_some(&mut self) -> Result<bool> {
        let Some(Expiring { now, sweep }) = &mut self.expiring else {
            return Ok(false);
        };
        if !sweep.take_wanted() {
            return Ok(false);
        }
        sweep.begin_round();
        let mut next = FOREVER;
        for state in self.states.iter_mut().filter(|state| state.expiry.is_some()) {
            next = next.min(state.tier.expire(*now)?.unwrap_or(FOREVER));
        }
        if next > *now {
            sweep.meet(next);
            sweep.end_round(*now);
        }
        Ok(true)
    }

    /// What calls wrote to a state, or had renewed, expires a while from now.
    pub(super) fn meet_writes(&mut self, state: usize) {
        if let (Some(expiring), Some(expiry)) = (&mut self.expiring, &self.states[state].expiry) {
            expiring.meet(expiry.renewed());
        }
    }
}
