//! Keys whose rows were set aside: they are not there.

use std::collections::BTreeSet;

use millrace_core::Result;
use millrace_core::function::{Effects, Slot};

use super::KeyedOperator;

impl KeyedOperator {
    /// Forgets keys that are new with this block and of which no row was taken. Where calls report what they touched,
    /// such keys are known to hold nothing; here is the other case.
    #[cold]
    pub(super) fn forget_quarantined(&mut self, effects: &Effects) -> Result<()> {
        if !self.always_writes || self.state_count == 0 {
            return Ok(());
        }
        let taken = |entry: u32| effects.quarantined.binary_search(&entry).is_err();
        let entries = (0..).zip(&self.slots);
        let written = entries.filter(|(entry, _)| taken(*entry));
        let written = written.map(|(_, &slot)| slot).collect::<BTreeSet<Slot>>();
        self.fresh.retain(|slot| !written.contains(slot));
        if let Some(tracking) = &mut self.tracking {
            tracking.forget(&self.fresh, |slots| self.keys.key_columns(slots))?;
        }
        if let Some(tiering) = &mut self.tiering {
            tiering.delete(&self.keys, &self.fresh)?;
        }
        self.keys.remove_all(&self.fresh);
        Ok(())
    }
}
