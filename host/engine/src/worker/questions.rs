//! Questions about the state of keys, which slots answer between blocks: whoever asks waits, rows do not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_array::{ArrayRef, RecordBatch};
use millrace_core::Result;
use millrace_core::plan::SlotIndex;

/// What a subtask holds for a key.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// As a snapshot would have it.
    pub(crate) rows: Vec<RecordBatch>,
    /// Large states by name: rows as a snapshot would have them, and whether there are more.
    pub(crate) collections: Vec<(String, RecordBatch, bool)>,
}

/// What a subtask of a slot is asked.
#[derive(Debug)]
pub(crate) struct Question {
    /// Its task in the plan.
    pub(crate) task: usize,
    /// A column of one value for each field of the key.
    pub(crate) key: Vec<ArrayRef>,
    /// Entries of each large state.
    pub(crate) limit: usize,
    pub(crate) answer: SyncSender<Result<Held>>,
}

/// The questions that the slots of an attempt have still to answer. With the attempt they go, and whoever asked sees
/// that.
#[derive(Debug)]
pub(crate) struct Questions {
    slots: Vec<(AtomicBool, Mutex<Vec<Question>>)>,
}

impl Questions {
    pub(crate) fn new(slots: u32) -> Self {
        Questions {
            slots: (0..slots).map(|_| Default::default()).collect(),
        }
    }

    /// Asks a slot, which has to be woken.
    pub(crate) fn push(&self, slot: SlotIndex, question: Question) {
        let (some, questions) = &self.slots[slot.0 as usize];
        lock(questions).push(question);
        some.store(true, Ordering::SeqCst);
    }

    /// Whether a slot has been asked something.
    #[inline]
    pub(crate) fn has_some(&self, slot: SlotIndex) -> bool {
        self.slots[slot.0 as usize].0.load(Ordering::SeqCst)
    }

    /// What a slot has been asked.
    pub(crate) fn take(&self, slot: SlotIndex) -> Vec<Question> {
        let (some, questions) = &self.slots[slot.0 as usize];
        let mut questions = lock(questions);
        some.store(false, Ordering::SeqCst);
        std::mem::take(&mut *questions)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
