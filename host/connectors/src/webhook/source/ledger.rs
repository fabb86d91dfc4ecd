//! Which requests were taken, which of them are in a complete checkpoint, and which keys they had.
//!
//! Requests that are taken are numbered from 1, in all attempts of a job: a checkpoint holds those up to the number in its
//! position, and the keys of the last ones. So a request that comes again is known, by the attempt that took it and by any that goes
//! on from a checkpoint with it; what no checkpoint holds is forgotten with its rows, and taken when it comes again.
//!
//! A key is remembered by its hash. Within an attempt the hash of the body is kept too, so that a key that is used for two
//! things is noticed.

use std::collections::{HashMap, VecDeque};

use millrace_core::connector::Position;
use millrace_core::{Error, Result};

/// The encoding of positions: this, the number of requests taken, and the keys, oldest first.
const VERSION: u8 = 1;

const NUMBER_BYTES: usize = 8;
const KEY_BYTES: usize = 16;

/// An `Idempotency-Key`, by its hash.
pub(super) type Key = u128;

/// A key with what was sent under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keyed {
    pub(super) key: Key,
    /// Hash of the body.
    pub(super) body: u64,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    New,
    /// The request of this number had it, and no complete checkpoint holds that yet.
    Taken(u64),
    /// One that a complete checkpoint holds.
    Durable,
    /// One with another body.
    OfAnother,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    number: u64,
    /// `None`: it was before this attempt.
    body: Option<u64>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Ledger {
    taken: u64,
    durable: u64,
    /// In the order in which they were taken.
    keys: VecDeque<Key>,
    entries: HashMap<Key, Entry>,
    keys_max: usize,
    /// Key of the last request that was taken.
    last: Option<Key>,
}

impl Ledger {
    /// What a checkpoint holds, but for the oldest keys, if it has too many; nothing, if it is the start.
    pub(super) fn restore(position: &Position, keys_max: usize) -> Result<Self> {
        let (taken, keys) = match *position == Position::START {
            true => (0, &[][..]),
            false => parse(position)?,
        };
        let keys = &keys[keys.len().saturating_sub(keys_max)..];
        let keys: VecDeque<Key> = keys.iter().map(|key| Key::from_le_bytes(*key)).collect();
        let entry = Entry {
            number: taken,
            body: None,
        };
        Ok(Ledger {
            taken,
            durable: taken,
            entries: keys.iter().map(|key| (*key, entry)).collect(),
            keys,
            keys_max,
            last: None,
        })
    }

    /// What a checkpoint is to hold.
    pub(super) fn position(&self) -> Position {
        let kept = self.keys.len().saturating_sub(self.keys_max);
        let mut bytes = Vec::with_capacity(1 + NUMBER_BYTES + KEY_BYTES * self.keys.len());
        bytes.push(VERSION);
        bytes.extend(self.taken.to_le_bytes());
        bytes.extend(self.keys.iter().skip(kept).flat_map(|key| key.to_le_bytes()));
        Position(bytes)
    }

    /// Number of the last request that was taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn look_up(&self, request: Keyed) -> Known {
        match self.entries.get(&request.key) {
            None => Known::New,
            Some(entry) if entry.body.is_some_and(|body| body != request.body) => Known::OfAnother,
            Some(entry) if entry.number <= self.durable => Known::Durable,
            Some(entry) => Known::Taken(entry.number),
        }
    }

    /// A request is taken, whose key is new if it has one; its number.
    pub(super) fn take(&mut self, request: Option<Keyed>) -> u64 {
        // One more than are kept, as long as the last may be given back.
        while self.keys.len() > self.keys_max {
            if let Some(oldest) = self.keys.pop_front() {
                self.entries.remove(&oldest);
            }
        }
        self.taken += 1;
        self.last = request.map(|request| request.key);
        if let Some(Keyed { key, body }) = request {
            let (number, body) = (self.taken, Some(body));
            let before = self.entries.insert(key, Entry { number, body });
            assert!(before.is_none(), "a key is taken once");
            self.keys.push_back(key);
        }
        self.taken
    }

    /// The last request is not taken after all.
    pub(super) fn give_back(&mut self) {
        assert!(self.taken > self.durable, "what a checkpoint holds stays taken");
        self.taken -= 1;
        if let Some(key) = self.last.take() {
            self.entries.remove(&key);
            self.keys.pop_back();
        }
    }

    /// A checkpoint with this position is complete; requests up to the number returned are in it.
    pub(super) fn complete(&mut self, position: &Position) -> Result<u64> {
        let (taken, _) = parse(position)?;
        self.durable = self.durable.max(taken);
        Ok(self.durable)
    }
}

/// Requests taken, and keys.
fn parse(position: &Position) -> Result<(u64, &[[u8; KEY_BYTES]])> {
    let parsed = position.0.split_first().and_then(|(version, rest)| {
        let (number, keys) = rest.split_first_chunk::<NUMBER_BYTES>()?;
        let (keys, rest) = keys.as_chunks();
        (*version == VERSION && rest.is_empty()).then(|| (u64::from_le_bytes(*number), keys))
    });
    parsed.ok_or_else(|| {
        let message = format!(
            "a checkpointed position of {} bytes was not written by a webhook source of this version",
            position.0.len()
        );
        Error::user("CN0103", message)
    })
}

#[cfg(test)]
mod tests;
