//! The windows that a call fires.

use super::Window;
use crate::bindings::operators::CallError;
use crate::block::Block;
use crate::chain::{RowContext, Work, check_slots, failure};
use crate::position;
use crate::value::Owned;
use crate::values::Timestamp;

/// Windows of the host that fire, each with its accumulator's slot and its key.
pub(crate) struct Firing<'w> {
    pub(crate) slots: &'w [u32],
    starts: &'w [i64],
    ends: &'w [i64],
    keys: &'w Block,
    /// Their accumulators are dropped.
    pub(crate) then_drop: bool,
}

impl<'w> Firing<'w> {
    /// What fires by this work; `None`: nothing, for the chain ends.
    #[inline(always)]
    pub(crate) fn of(work: &Work<'w>) -> Result<Option<Self>, CallError> {
        match *work {
            Work::Windows {
                slots,
                starts,
                ends,
                keys,
                then_drop,
            } => {
                check_slots(slots, keys)?;
                Ok(Some(Firing {
                    slots,
                    starts,
                    ends,
                    keys,
                    then_drop,
                }))
            }
            Work::Close => Ok(None),
            Work::Rows { .. } | Work::Timers { .. } | Work::Matches { .. } => {
                Err(failure("a windowed chain accumulates and emits"))
            }
        }
    }

    /// Fires each: what it puts out has its last moment as its time.
    #[inline(always)]
    pub(crate) fn each<K: Owned>(
        &self,
        operator: u32,
        cx: &mut RowContext,
        mut fire: impl FnMut(u32, K, Window, &mut RowContext),
    ) {
        let keys = K::column(&mut self.keys.buffers(), self.keys.rows());
        for (index, (&slot, (&start, &end))) in self.slots.iter().zip(self.starts.iter().zip(self.ends)).enumerate() {
            position::set_entry(index as u32);
            position::enter(operator);
            cx.time = end.saturating_sub(1);
            let window = Window {
                start: Timestamp::from_millis(start),
                end: Timestamp::from_millis(end),
            };
            fire(slot, K::get(&keys, index), window, cx);
        }
    }
}
