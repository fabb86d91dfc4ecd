//! Restoring large states while rows flow, one key group after the other.
//!
//! Rows of a key are taken once all of its group is there. Until then nothing reads or writes entries of the group, so that
//! layers are laid over each other as ever, from the oldest on, and entries need no mark of which layer they are from.

use arrow_array::ArrayRef;
use millrace_core::Result;
use millrace_core::key::{KeyGroup, hash_rows};

use super::HostCollections;

/// The key groups of which all has come.
#[derive(Debug)]
pub(super) struct Come(Vec<bool>);

impl HostCollections {
    /// No key group has come yet.
    pub(in crate::keyed) fn begin_restore(&mut self) {
        self.restoring = Some(Come(vec![false; self.max_parallelism as usize]));
    }

    /// All that there is of these key groups has been restored.
    pub(in crate::keyed) fn groups_have_come(&mut self, groups: &[u32]) {
        if let Some(Come(come)) = &mut self.restoring {
            groups.iter().for_each(|&group| come[group as usize] = true);
        }
    }

    /// All key groups have come.
    pub(in crate::keyed) fn end_restore(&mut self) {
        self.restoring = None;
    }

    /// Leaves of these keys those as `known` whose group has come.
    pub(in crate::keyed) fn leave_come(&self, keys: &[ArrayRef], known: &mut [bool]) -> Result<()> {
        let Some(Come(come)) = &self.restoring else {
            return Ok(());
        };
        for (known, group) in known.iter_mut().zip(self.groups_of(keys)?) {
            *known &= come[group as usize];
        }
        Ok(())
    }

    /// The group of the first of these keys that has not come.
    pub(in crate::keyed) fn missing_group(&self, keys: &[ArrayRef]) -> Result<Option<u32>> {
        let Some(Come(come)) = &self.restoring else {
            return Ok(None);
        };
        Ok(self.groups_of(keys)?.find(|group| !come[*group as usize]))
    }

    fn groups_of(&self, keys: &[ArrayRef]) -> Result<impl Iterator<Item = u32>> {
        let mut hashes = Vec::new();
        hash_rows(keys, &mut hashes)?;
        let max_parallelism = self.max_parallelism;
        let groups = hashes.into_iter();
        Ok(groups.map(move |hash| KeyGroup::of_hash(hash, max_parallelism).0))
    }
}
