//! What a failed call means, in the user's words.

use wasmtime::{Trap, WasmBacktrace};

use crate::host_state::HostState;
use crate::instance::CallFailure;

/// Frames of a wasm backtrace that are worth showing.
const FRAMES_MAX: usize = 8;

/// Frames of one function among those of a backtrace (wasmtime keeps 20) that make it a recursion.
const RECURSION_FRAMES: usize = 4;

/// Reads the reason of a failed call from the error and from what the guest and the limits left behind.
pub(crate) fn failure(error: &wasmtime::Error, state: &mut HostState) -> CallFailure {
    let (mut operator, mut entry) = state
        .position
        .map_or((None, None), |(operator, entry)| (Some(operator), Some(entry)));
    let panic = state.panic.take();
    if let Some(panic) = &panic {
        operator = panic.operator.or(operator);
        entry = panic.entry.or(entry);
    }
    let (code, message) = reason(error, state, panic.map(|panic| panic.message));
    CallFailure {
        operator,
        entry,
        code,
        message,
        trapped: true,
    }
}

fn reason(error: &wasmtime::Error, state: &HostState, panic: Option<String>) -> (&'static str, String) {
    if let Some(desired) = state.limiter.denied_bytes {
        let limit = state.limiter.memory_bytes_max >> 20;
        let message = format!(
            "out of memory: the instance needs {} MiB, over its limit of {limit} MiB; \
             spread its state over more slots (--parallelism) or hold less",
            desired >> 20
        );
        return ("PL0004", message);
    }
    if state.staged_over_limit {
        let limit = state.limits.staged_bytes >> 20;
        return ("PL0006", format!("one call put out more than {limit} MiB"));
    }
    if let Some(what) = state.unsupported {
        return (
            "PL0009",
            format!("the guest called `{what}`, which this version of the host does not support"),
        );
    }
    if let Some(message) = panic {
        return ("PL0001", format!("panicked: {message}"));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            let seconds = state.limits.call_deadline.as_secs_f64();
            (
                "PL0003",
                format!("did not return within {seconds} s{}", backtrace(error)),
            )
        }
        Some(Trap::StackOverflow) => ("PL0005", format!("overflowed its stack{}", backtrace(error))),
        // The part of the stack that lies in linear memory ends at its start.
        Some(Trap::MemoryOutOfBounds) if recurses(error) => {
            ("PL0005", format!("overflowed its stack{}", backtrace(error)))
        }
        Some(trap) => ("PL0002", format!("trapped: {trap}{}", backtrace(error))),
        None => ("PL0002", format!("failed: {}{}", error.root_cause(), backtrace(error))),
    }
}

/// Whether one function is in the innermost frames again and again.
fn recurses(error: &wasmtime::Error) -> bool {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return false;
    };
    let frames: Vec<u32> = backtrace.frames().iter().map(|frame| frame.func_index()).collect();
    let times = |function: &u32| frames.iter().filter(|other| *other == function).count();
    frames.iter().any(|function| times(function) >= RECURSION_FRAMES)
}

/// The innermost frames with names, one a line.
fn backtrace(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return String::new();
    };
    let mut text = String::new();
    for frame in backtrace.frames().iter().take(FRAMES_MAX) {
        if let Some(name) = frame.func_name() {
            text.push_str("\n    in ");
            text.push_str(&rustc_demangle::demangle(name).to_string());
        }
    }
    text
}
