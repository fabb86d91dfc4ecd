//! What a failed call means, in the user's words.

use wasmtime::{Trap, WasmBacktrace};

use crate::host_state::HostState;
use crate::instance::CallFailure;
use crate::limits::{Denied, Limiter};

/// Frames of a wasm backtrace that are worth showing.
const FRAMES_MAX: usize = 8;

/// A function that is on the stack this often calls itself without end.
const RECURSION_FRAMES_MIN: usize = 5;

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
    let by_entry = by_entry(state);
    let host_error = state.failed_read.take().map(Box::new);
    let (code, message) = reason(error, state, panic.map(|panic| panic.message));
    CallFailure {
        operator,
        entry,
        code,
        message,
        trapped: true,
        by_entry,
        host_error,
    }
}

/// Whether an entry of the call may be to blame. A call that runs out of memory is to blame only if most of the memory
/// is its own doing: where state fills the instance, any entry will be the one that is too many.
fn by_entry(state: &HostState) -> bool {
    match &state.limiter.denied {
        Some(Denied::OverLimit { .. }) => state.memory_before < state.limiter.memory_bytes_max / 2,
        Some(Denied::BySystem { .. }) => false,
        None => state.breach.is_none() && state.failed_read.is_none(),
    }
}

fn reason(error: &wasmtime::Error, state: &HostState, panic: Option<String>) -> (&'static str, String) {
    if let Some(denied) = &state.limiter.denied {
        return ("PL0004", out_of_memory(denied, &state.limiter));
    }
    if state.staged_over_limit {
        let limit = state.limits.staged_bytes >> 20;
        return ("PL0006", format!("one call put out more than {limit} MiB"));
    }
    if let Some(breach) = &state.breach {
        return ("PL0007", format!("the guest broke the contract: {breach}"));
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
        Some(Trap::StackOverflow) => {
            let limit = state.limits.stack_bytes >> 10;
            (
                "PL0005",
                format!("overflowed its stack of {limit} KiB{}", backtrace(error)),
            )
        }
        // The stack in a guest's own memory ends at address 0: running over it looks like any wild access.
        Some(Trap::MemoryOutOfBounds) if recurses(&frames(error)) => (
            "PL0005",
            format!("overflowed its stack, which lies in its memory{}", backtrace(error)),
        ),
        Some(trap) => ("PL0002", format!("trapped: {trap}{}", backtrace(error))),
        // wasmtime has no type for it that is public.
        None if error.root_cause().to_string().contains("fuel allocated for hostcalls") => {
            let limit = state.limits.handed_bytes >> 20;
            (
                "PL0006",
                format!(
                    "handed over more than {limit} MiB at once, as a row that large does{}",
                    backtrace(error)
                ),
            )
        }
        None => ("PL0002", format!("failed: {}{}", error.root_cause(), backtrace(error))),
    }
}

fn out_of_memory(denied: &Denied, limiter: &Limiter) -> String {
    const REMEDY: &str = "spread its state over more slots (--parallelism), raise the limit (--memory-limit, up to 4096 MiB) or hold less";
    let limit = limiter.memory_bytes_max >> 20;
    match denied {
        Denied::OverLimit { desired_bytes } => {
            let desired = desired_bytes.div_ceil(1 << 20);
            format!("out of memory: the instance needs {desired} MiB, over its limit of {limit} MiB; {REMEDY}")
        }
        Denied::BySystem { reason } => {
            let held = limiter.memory_bytes >> 20;
            format!("out of memory: the system did not give the instance its {held} MiB ({reason}); hold less")
        }
    }
}

/// Names of the frames, innermost first.
fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let names = backtrace.frames().iter().filter_map(|frame| frame.func_name());
    // The alternate form leaves out the hash at the end of Rust's names.
    names
        .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
        .collect()
}

/// Whether a function calls itself all the way: most of many frames are the innermost one.
fn recurses(frames: &[String]) -> bool {
    let Some(innermost) = frames.first() else { return false };
    let same = frames.iter().filter(|frame| *frame == innermost).count();
    same >= RECURSION_FRAMES_MIN && same * 2 >= frames.len()
}

/// The innermost frames with names, one a line; repetitions are counted.
fn backtrace(error: &wasmtime::Error) -> String {
    render(&frames(error))
}

fn render(frames: &[String]) -> String {
    let mut text = String::new();
    for same in frames.chunk_by(|a, b| a == b).take(FRAMES_MAX) {
        text.push_str("\n    in ");
        text.push_str(&same[0]);
        if same.len() > 1 {
            text.push_str(&format!(" ({} times)", same.len()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &str) -> Vec<String> {
        names.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn recursion_is_seen_in_the_frames() {
        assert!(recurses(&frames("f f f f f f g process")));
        assert!(recurses(&frames("f g f g f g f g f g")));
        for names in ["f g h process", "f f process", "f g h i j k l m n f f f f"] {
            assert!(!recurses(&frames(names)), "{names}");
        }
        assert!(!recurses(&[]));
    }

    #[test]
    fn repeated_frames_take_one_line() {
        assert_eq!(render(&frames("f f f g")), "\n    in f (3 times)\n    in g");
    }
}
