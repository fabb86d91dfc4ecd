//! Answers that a subtask remembers, for some time and of so many rows.
//!
//! There are two *generations*. Answers come into the young one. When that would hold more than half of what may be held it becomes
//! the old one, and what was old is forgotten at once. What is found in the old one is copied to the young one, so that keys that are asked
//! for often stay; of all that is held nothing is dead for long, and no list is kept of what was used when.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use millrace_core::Result;
use millrace_core::block::Millis;

use super::distinct::DistinctKeys;
use super::joined::gather;
use crate::changes::broken;

/// Rows of a batch to which others are added: a few rows for each block would make many batches.
const ROWS_PER_BATCH: usize = 1024;

/// Limits of a cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows_max: u64,
    pub(super) expire_after_ms: Option<u64>,
    pub(super) remembers_missing: bool,
}

/// Rows of a key: so many of a batch from one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) batch: u32,
    pub(super) start: u32,
    pub(super) count: u32,
    /// When the table was asked.
    asked_at: Millis,
}

impl Entry {
    /// What it counts as.
    fn size(self) -> u64 {
        u64::from(self.count.max(1))
    }
}

/// Which generation remembers a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    Young,
    Old,
}

#[derive(Debug, Default)]
struct Generation {
    keys: DistinctKeys,
    /// By number of the key.
    entries: Vec<Entry>,
    batches: Vec<RecordBatch>,
    /// Rows that it holds; a key without any counts as one.
    size: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Cache {
    limits: Limits,
    schema: SchemaRef,
    young: Generation,
    old: Generation,
}

impl Cache {
    pub(super) fn new(limits: Limits, schema: SchemaRef) -> Self {
        Cache {
            limits,
            schema,
            young: Generation::default(),
            old: Generation::default(),
        }
    }

    /// Rows that are remembered.
    pub(super) fn size(&self) -> u64 {
        self.young.size + self.old.size
    }

    /// What is remembered of a key.
    pub(super) fn find(&self, key: &[u8], now: Millis) -> Option<(Age, Entry)> {
        let of = |age: Age, generation: &Generation| {
            let number = generation.keys.find(key)?;
            Some((age, generation.entries[number as usize]))
        };
        let found = of(Age::Young, &self.young).or_else(|| of(Age::Old, &self.old));
        found.filter(|(_, entry)| {
            let expires = self.limits.expire_after_ms;
            expires.is_none_or(|after| now < entry.asked_at.saturating_add_unsigned(after))
        })
    }

    pub(super) fn batch(&self, age: Age, batch: u32) -> &RecordBatch {
        match age {
            Age::Young => &self.young.batches[batch as usize],
            Age::Old => &self.old.batches[batch as usize],
        }
    }

    /// Remembers keys of the old generation, which were asked for, in the young one.
    pub(super) fn renew<'k>(&mut self, entries: impl Iterator<Item = (&'k [u8], Entry)>) -> Result<()> {
        let fitting = self.fitting(&self.old.batches, entries)?;
        self.put(fitting)
    }

    /// Remembers answers: of each key where its rows begin among these, and how many there are.
    pub(super) fn add<'k>(
        &mut self,
        rows: &RecordBatch,
        answers: impl Iterator<Item = (&'k [u8], u32, u32)>,
        now: Millis,
    ) -> Result<()> {
        let remembers_missing = self.limits.remembers_missing;
        let answers = answers.filter(|(_, _, count)| remembers_missing || *count > 0);
        let entries = answers.map(|(key, start, count)| {
            let entry = Entry {
                batch: 0,
                start,
                count,
                asked_at: now,
            };
            (key, entry)
        });
        let fitting = self.fitting(std::slice::from_ref(rows), entries)?;
        self.put(fitting)
    }

    /// Rows that a generation may hold.
    fn half(&self) -> u64 {
        self.limits.rows_max.div_ceil(2)
    }

    /// As many of these as a generation may hold, with their rows.
    fn fitting<'k>(
        &self,
        batches: &[RecordBatch],
        entries: impl Iterator<Item = (&'k [u8], Entry)>,
    ) -> Result<Fitting<'k>> {
        let (mut places, mut fitting, mut size) = (Vec::new(), Vec::new(), 0);
        for (key, entry) in entries {
            if size + entry.size() <= self.half() {
                size += entry.size();
                let start = places.len() as u32;
                places.extend((entry.start..entry.start + entry.count).map(|row| (entry.batch, row)));
                fitting.push((key, Entry { start, ..entry }));
            }
        }
        Ok(Fitting {
            rows: gather(&self.schema, batches, &places)?,
            entries: fitting,
            size,
        })
    }

    fn put(&mut self, fitting: Fitting<'_>) -> Result<()> {
        if fitting.entries.is_empty() {
            return Ok(());
        }
        if self.young.size + fitting.size > self.half() {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.add(&self.schema, fitting)
    }
}

/// Entries that a generation has room for.
struct Fitting<'k> {
    /// Rows of all of them.
    rows: RecordBatch,
    entries: Vec<(&'k [u8], Entry)>,
    size: u64,
}

impl Generation {
    /// Adds entries whose rows begin at `start` of theirs.
    fn add(&mut self, schema: &SchemaRef, fitting: Fitting<'_>) -> Result<()> {
        let Fitting { rows, entries, size } = fitting;
        let small = self.batches.last().filter(|last| last.num_rows() < ROWS_PER_BATCH);
        let shift = small.map_or(0, RecordBatch::num_rows) as u32;
        if rows.num_rows() > 0 {
            match small {
                Some(last) => {
                    let both = concat_batches(schema, [last, &rows]).map_err(broken)?;
                    self.batches.pop();
                    self.batches.push(both);
                }
                None => self.batches.push(rows),
            }
        }
        let batch = self.batches.len().saturating_sub(1) as u32;
        for (key, entry) in entries {
            let entry = Entry {
                batch,
                start: entry.start + shift,
                ..entry
            };
            let number = self.keys.insert(key) as usize;
            match self.entries.get_mut(number) {
                Some(known) => *known = entry,
                None => self.entries.push(entry),
            }
        }
        self.size += size;
        Ok(())
    }
}
