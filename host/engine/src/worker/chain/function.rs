//! What a keyed operator calls: the guest's function, or a pattern that asks the guest for conditions and results.

use millrace_core::function::KeyedFunction;
use millrace_operators::PatternOperator;
use millrace_wasm::GuestChain;

/// Runs a step of a keyed operator with its function.
pub(super) fn with_function<R>(
    pattern: &mut Option<Box<PatternOperator>>,
    guest: &mut GuestChain,
    step: impl FnOnce(&mut dyn KeyedFunction) -> R,
) -> R {
    match pattern {
        None => step(guest),
        Some(pattern) => step(&mut pattern.with(guest)),
    }
}
