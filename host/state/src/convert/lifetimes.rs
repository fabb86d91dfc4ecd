//! What has expired is not there any more: it is left out before anything is converted.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, StructArray};
use arrow_select::nullif::nullif;
use millrace_core::Result;
use millrace_core::block::Millis;

use crate::savepoint::{Layout, broken};

/// Values of states, null where they have expired by now.
pub(super) fn without_expired(
    layout: &Layout,
    states: &[ArrayRef],
    expires: Option<&StructArray>,
    now: Millis,
) -> Result<Vec<ArrayRef>> {
    let of_state = |(state, values): (usize, &ArrayRef)| {
        let times = layout
            .place_of_expiry(state)
            .and_then(|place| Some(expires?.column(place)));
        let Some(times) = times.map(|times| times.as_primitive::<Int64Type>()) else {
            return Ok(values.clone());
        };
        let expired = |row: usize| times.is_valid(row) && times.value(row) <= now;
        let expired: BooleanArray = (0..times.len()).map(|row| Some(expired(row))).collect();
        match expired.true_count() {
            0 => Ok(values.clone()),
            _ => nullif(values, &expired).map_err(broken),
        }
    };
    states.iter().enumerate().map(of_state).collect()
}
