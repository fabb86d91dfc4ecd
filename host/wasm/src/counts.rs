//! What a call's result counts: rows by operator, bytes by state.

use crate::bindings::operators;
use crate::chain::ChainInfo;

impl ChainInfo {
    /// What is wrong with the counts in a result: they are there for each operator or state, or left out.
    pub(crate) fn wrong_counts(&self, result: &operators::CallResult) -> Option<String> {
        let (emitted, operators) = (result.emitted.len(), self.operators.len());
        if emitted != 0 && emitted != operators {
            return Some(format!(
                "{emitted} counts of rows from a chain of {operators} operators"
            ));
        }
        let (changes, states) = (result.live_bytes.len(), self.states.len());
        if changes != 0 && changes != states && changes != self.resident.len() {
            return Some(format!("{changes} changes of live bytes for {states} states"));
        }
        None
    }
}
