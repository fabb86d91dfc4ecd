//! Which calls a row of a session window means.

use arrow_array::ArrayRef;
use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::function::WindowFunction;

use super::{SessionWindows, store};
use crate::careful::RowCalls;
use crate::window::Context;

impl SessionWindows {
    /// What adding this row will ask of the guest; `None`: nothing, it is too late. What a snapshot has still to export
    /// of the row's key goes out.
    pub(in crate::window) fn calls_of_row(
        &mut self,
        context: &mut Context,
        key_columns: &[ArrayRef],
        time: Millis,
        function: &mut dyn WindowFunction,
    ) -> Result<Option<RowCalls>> {
        self.batch.load(key_columns)?;
        self.fetch_key(context, 0, function)?;
        let mut found = Vec::with_capacity(1);
        self.keys.find(&self.batch, 0..1, &mut found);
        let mut session = None;
        if let Some(key) = found[0] {
            if let Some(tracking) = &mut self.tracking {
                tracking.export_among(&[key], &self.keys, &self.store, function)?;
            }
            session = self.store.find(key, time, self.gap).ok();
        }
        let Some(session) = session else {
            let late = context.expired(store::last_ms(time, self.gap));
            let opens = RowCalls {
                merge: None,
                slot: context.slots.next(),
            };
            return Ok((!late).then_some(opens));
        };
        let slot = self.store.session(session).slot;
        let joined = self.store.joined_by(session, time, self.gap);
        Ok(Some(match joined.map(|older| self.store.session(older).slot) {
            // The accumulator of the older one stays.
            Some(older) => RowCalls {
                merge: Some((older, slot)),
                slot: older,
            },
            None => RowCalls { merge: None, slot },
        }))
    }
}
