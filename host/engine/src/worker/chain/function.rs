//! What a keyed operator calls: the guest's function, or a pattern that asks the guest for conditions and results.

use millrace_core::Result;
use millrace_core::block::Block;
use millrace_core::function::{KeyedFunction, PatternFunction};
use millrace_operators::PatternOperator;
use millrace_operators::keyed::KeyedOperator;

use crate::worker::wiring::{KeySource, key_columns};

/// Runs a step of a keyed operator with its function.
pub(super) fn with_function<G: KeyedFunction + PatternFunction, R>(
    pattern: &mut Option<Box<PatternOperator>>,
    guest: &mut G,
    step: impl FnOnce(&mut dyn KeyedFunction) -> R,
) -> R {
    match pattern {
        None => step(guest),
        Some(pattern) => step(&mut pattern.with(guest)),
    }
}

/// Rows of an input through a keyed operator; those that a pattern does not care about need no key.
pub(super) fn handle_keyed<G: KeyedFunction + PatternFunction>(
    operator: &mut KeyedOperator,
    pattern: &mut Option<Box<PatternOperator>>,
    guest: &mut G,
    (input, keys): (u32, &KeySource),
    block: &Block,
) -> Result<()> {
    let admitted = pattern.as_mut().map(|pattern| pattern.admit(block, guest));
    let admitted = admitted.transpose()?;
    let block = admitted.as_ref().unwrap_or(block);
    let keys = key_columns(keys, block)?;
    with_function(pattern, guest, |function| {
        operator.handle_block(input, &keys, block, function)
    })
}
