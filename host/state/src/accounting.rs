//! Which file is needed by whom: a pure account of the layers of one run.
//!
//! Three kinds of things refer to files: *completed* checkpoints, *pending* ones (some subtasks have written,
//! others not yet), and the *live stack* of each subtask: the layers that its next increment will lie on. The
//! latter is why the layers of an aborted checkpoint stay. An increment says what changed since the subtask's
//! previous snapshot, whatever became of the checkpoint that one was for:
//!
//! ```text
//!   checkpoint 4: full          completed     files of 4
//!   checkpoint 5: increment     aborted       -
//!   checkpoint 6: increment     completed     files of 4, 5, 6
//! ```
//!
//! A file to which nothing refers any more is handed out once, to be deleted.

use std::collections::{BTreeMap, BTreeSet};

use millrace_core::checkpoint::CheckpointId;

use crate::format::Layer;

/// Whose table it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Id of the operator.
    pub operator: String,
    /// Number of the subtask.
    pub subtask: u32,
    /// The large state that it is, if it is one's.
    pub state: Option<String>,
}

/// What a subtask handed over at one checkpoint, once it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The table as of then, the oldest layer first.
    pub layers: Vec<Layer>,
    /// Entries in it.
    pub live_rows: u64,
}

/// Why a delta does not go onto a subtask's stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// An increment, but there is nothing that it could lie on.
    NoBase,
    /// An increment after another that could not be written.
    Lost(CheckpointId),
    /// The subtask has already written at this or a later checkpoint, or all have started again since.
    OutOfOrder(CheckpointId),
}

#[derive(Debug, Clone)]
struct Stack {
    layers: Vec<Layer>,
    /// The checkpoint at which the subtask last wrote.
    last: CheckpointId,
    /// The checkpoint whose delta could not be written after that.
    lost: Option<CheckpointId>,
}

/// The account of one run.
#[derive(Debug, Clone, Default)]
pub struct Accounting {
    completed: BTreeMap<CheckpointId, BTreeSet<String>>,
    pending: BTreeMap<CheckpointId, BTreeMap<Owner, Written>>,
    /// Files of pending checkpoints that are part of no table: rows in flight.
    loose: BTreeMap<CheckpointId, Vec<String>>,
    stacks: BTreeMap<Owner, Stack>,
    references: BTreeMap<String, usize>,
    /// Checkpoints up to this one are of earlier attempts.
    floor: Option<CheckpointId>,
}

impl Accounting {
    /// A checkpoint that was there when the run was opened.
    pub fn adopt(&mut self, id: CheckpointId, files: impl IntoIterator<Item = String>) {
        let files: BTreeSet<String> = files.into_iter().collect();
        for file in &files {
            self.retain(file);
        }
        let before = self.completed.insert(id, files);
        assert!(before.is_none(), "checkpoint {id} is adopted once");
    }

    /// The subtasks start again: these are their stacks, and nothing is pending. `last` is the greatest id that was
    /// ever used; what comes late for that or an earlier one is refused.
    pub fn resume(&mut self, last: CheckpointId, stacks: impl IntoIterator<Item = (Owner, Vec<Layer>)>) -> Vec<String> {
        let stacks: BTreeMap<Owner, Stack> = stacks
            .into_iter()
            .map(|(owner, layers)| {
                let lost = None;
                (owner, Stack { layers, last, lost })
            })
            .collect();
        for layer in stacks.values().flat_map(|stack| &stack.layers) {
            self.retain(&layer.file);
        }
        self.floor = self.floor.max(Some(last));
        let before = std::mem::replace(&mut self.stacks, stacks);
        let mut freed = self.release_all(before.into_values().map(|stack| stack.layers));
        let pending = std::mem::take(&mut self.pending);
        let written = pending.into_values().flat_map(BTreeMap::into_values);
        freed.extend(self.release_all(written.map(|written| written.layers)));
        let loose = std::mem::take(&mut self.loose);
        freed.extend(self.release_files(loose.into_values().flatten()));
        freed
    }

    /// A file was written that is part of a pending checkpoint and of no table.
    pub fn add_file(&mut self, id: CheckpointId, file: String) {
        self.retain(&file);
        self.loose.entry(id).or_default().push(file);
    }

    /// Whether a delta may be written. An increment that could not be written may be tried again.
    pub fn check(&self, id: CheckpointId, owner: &Owner, full: bool) -> Result<(), Refusal> {
        if let Some(floor) = self.floor.filter(|floor| *floor >= id) {
            return Err(Refusal::OutOfOrder(floor));
        }
        match self.stacks.get(owner) {
            Some(stack) if stack.last >= id => Err(Refusal::OutOfOrder(stack.last)),
            _ if full => Ok(()),
            None => Err(Refusal::NoBase),
            Some(Stack { lost: Some(lost), .. }) if *lost != id => Err(Refusal::Lost(*lost)),
            Some(_) => Ok(()),
        }
    }

    /// A delta was written, as so many layers. Returns the files that are free now.
    ///
    /// # Panics
    /// If [`Accounting::check`] would refuse it.
    pub fn add(&mut self, id: CheckpointId, owner: Owner, full: bool, new: Vec<Layer>, live_rows: u64) -> Vec<String> {
        let refusal = self.check(id, &owner, full);
        assert_eq!(
            refusal,
            Ok(()),
            "what {owner:?} hands over at checkpoint {id} was checked"
        );
        let before = self.stacks.remove(&owner);
        let (mut layers, replaced) = match before {
            Some(stack) if full => (Vec::new(), stack.layers),
            Some(stack) => (stack.layers, Vec::new()),
            None => (Vec::new(), Vec::new()),
        };
        for layer in new {
            self.retain(&layer.file);
            layers.push(layer);
        }
        for layer in &layers {
            self.retain(&layer.file); // for the pending checkpoint, beside the stack
        }
        let written = Written {
            layers: layers.clone(),
            live_rows,
        };
        let (last, lost) = (id, None);
        self.stacks.insert(owner.clone(), Stack { layers, last, lost });
        self.pending.entry(id).or_default().insert(owner, written);
        self.release_all([replaced])
    }

    /// A delta could not be written: until it is, or a full one, increments would lie on too little.
    pub fn lose(&mut self, id: CheckpointId, owner: &Owner) {
        if let Some(stack) = self.stacks.get_mut(owner) {
            stack.lost.get_or_insert(id);
        }
    }

    /// Whether a checkpoint is of an earlier attempt and cannot be completed any more.
    pub fn is_stale(&self, id: CheckpointId) -> bool {
        self.floor.is_some_and(|floor| floor >= id)
    }

    /// What a subtask has written for a pending checkpoint.
    pub fn written(&self, id: CheckpointId, owner: &Owner) -> Option<&Written> {
        self.pending.get(&id)?.get(owner)
    }

    /// The layers on which the next increment of a subtask will lie; `None`: it has to be full.
    pub fn stack(&self, owner: &Owner) -> Option<&[Layer]> {
        let stack = self.stacks.get(owner)?;
        stack.lost.is_none().then_some(&stack.layers)
    }

    /// All subtasks have written and the checkpoint is stored. Earlier ones that are still pending are given up,
    /// and so are the stacks of subtasks that had no table any more. Returns the files that are free now.
    pub fn complete(&mut self, id: CheckpointId) -> Vec<String> {
        let written = self.pending.remove(&id).unwrap_or_default();
        let files = written.values().flat_map(|written| &written.layers);
        let files = files.map(|layer| layer.file.clone());
        let loose = self.loose.get(&id).into_iter().flatten().cloned();
        self.adopt(id, files.chain(loose).collect::<Vec<_>>());
        let later = self.loose.split_off(&CheckpointId(id.0 + 1));
        let loose = std::mem::replace(&mut self.loose, later);
        let gone = |owner: &Owner, stack: &mut Stack| stack.last < id && !written.contains_key(owner);
        let gone: Vec<_> = self.stacks.extract_if(.., gone).collect();
        let later = self.pending.split_off(&id);
        let earlier = std::mem::replace(&mut self.pending, later);
        let earlier = earlier.into_values().flat_map(BTreeMap::into_values);
        let layers = gone.into_iter().map(|(_, stack)| stack.layers);
        let layers = layers.chain(earlier.chain(written.into_values()).map(|written| written.layers));
        let mut freed = self.release_all(layers);
        freed.extend(self.release_files(loose.into_values().flatten()));
        freed
    }

    /// All subtasks have written what a savepoint is made of: it is kept like a checkpoint until it is discarded, and
    /// concerns no other. Returns the files that are free now.
    pub fn hold(&mut self, id: CheckpointId) -> Vec<String> {
        let written = self.pending.remove(&id).unwrap_or_default();
        let files = written.values().flat_map(|written| &written.layers);
        self.adopt(id, files.map(|layer| layer.file.clone()).collect::<Vec<_>>());
        self.release_all(written.into_values().map(|written| written.layers))
    }

    /// A pending checkpoint is given up. Returns the files that are free now.
    pub fn abort(&mut self, id: CheckpointId) -> Vec<String> {
        let written = self.pending.remove(&id).unwrap_or_default();
        let mut freed = self.release_all(written.into_values().map(|written| written.layers));
        let loose = self.loose.remove(&id).unwrap_or_default();
        freed.extend(self.release_files(loose));
        freed
    }

    /// A completed checkpoint is no longer kept. Returns the files that are free now.
    pub fn discard(&mut self, id: CheckpointId) -> Vec<String> {
        let files = self.completed.remove(&id).unwrap_or_default();
        files.into_iter().filter(|file| self.release(file)).collect()
    }

    /// The completed checkpoints, the oldest first.
    pub fn completed(&self) -> impl Iterator<Item = CheckpointId> {
        self.completed.keys().copied()
    }

    /// Whether anything refers to a file.
    pub fn needs(&self, file: &str) -> bool {
        self.references.contains_key(file)
    }

    fn retain(&mut self, file: &str) {
        match self.references.get_mut(file) {
            Some(count) => *count += 1,
            None => {
                self.references.insert(file.to_owned(), 1);
            }
        }
    }

    /// Takes one reference away; true if it was the last.
    fn release(&mut self, file: &str) -> bool {
        let count = self.references.get_mut(file).expect("what is released was retained");
        *count -= 1;
        let last = *count == 0;
        if last {
            self.references.remove(file);
        }
        last
    }

    fn release_all(&mut self, layers: impl IntoIterator<Item = Vec<Layer>>) -> Vec<String> {
        self.release_files(layers.into_iter().flatten().map(|layer| layer.file))
    }

    fn release_files(&mut self, files: impl IntoIterator<Item = String>) -> Vec<String> {
        files.into_iter().filter(|file| self.release(file)).collect()
    }
}

#[cfg(test)]
mod tests;
