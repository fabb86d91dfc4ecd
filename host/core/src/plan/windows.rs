//! Whether there can be windows as an operator declares them.

use crate::block::Millis;
use crate::error::{Error, Result};
use crate::graph::{Chain, Graph, Head, WindowAssigner, WindowDecl};

/// Windows that a row may be in: a day every second is within it.
const WINDOWS_PER_ROW_MAX: Millis = 100_000;

/// What lasts longer would take event time beyond what it can say: some seventy million years.
const LONGEST_MS: Millis = Millis::MAX / 4;

/// Checks the windows that a chain begins with, if it does.
///
/// # Errors
/// `WN0001`, which names the operator.
pub(super) fn check(graph: &Graph, chain: &Chain) -> Result<()> {
    let Head::Window { window, .. } = &chain.head else {
        return Ok(());
    };
    let name = &graph.operators[chain.operators[0].0 as usize].name;
    check_declared(window).map_err(|error| Error::user("WN0001", format!("operator `{name}`: {error}")))
}

fn check_declared(window: &WindowDecl) -> Result<(), String> {
    let within = |what: &str, value: Millis, least: Millis| match value {
        _ if value < least => Err(format!("{what} is {value} ms; it must be at least {least} ms")),
        _ if value > LONGEST_MS => Err(format!("{what} of {value} ms is too long")),
        _ => Ok(()),
    };
    match window.assigner {
        WindowAssigner::Tumbling { size_ms, .. } => within("a window's size", size_ms, 1)?,
        WindowAssigner::Sliding { size_ms, slide_ms, .. } => {
            within("a window's size", size_ms, 1)?;
            within("a window's slide", slide_ms, 1)?;
            let windows = size_ms / slide_ms;
            if windows > WINDOWS_PER_ROW_MAX {
                return Err(format!(
                    "windows of {size_ms} ms every {slide_ms} ms put each row in {windows} windows; up to \
                     {WINDOWS_PER_ROW_MAX} are supported"
                ));
            }
        }
        WindowAssigner::Session { gap_ms } => within("a session's gap", gap_ms, 1)?,
    }
    within("the allowed lateness", window.allowed_lateness_ms, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_windows_are_refused() {
        let tumbling = |size_ms| WindowAssigner::Tumbling { size_ms, offset_ms: 0 };
        let sliding = |size_ms, slide_ms| WindowAssigner::Sliding {
            size_ms,
            slide_ms,
            offset_ms: 0,
        };
        let session = |gap_ms| WindowAssigner::Session { gap_ms };
        for (assigner, lateness, expect) in [
            (tumbling(1), 0, None),
            (
                tumbling(0),
                0,
                Some("a window's size is 0 ms; it must be at least 1 ms"),
            ),
            (
                tumbling(Millis::MAX),
                0,
                Some("a window's size of 9223372036854775807 ms is too long"),
            ),
            (
                sliding(10, -1),
                0,
                Some("a window's slide is -1 ms; it must be at least 1 ms"),
            ),
            (sliding(100_000, 1), 0, None),
            (
                sliding(100_001, 1),
                0,
                Some("windows of 100001 ms every 1 ms put each row in 100001 windows; up to 100000 are supported"),
            ),
            (session(0), 0, Some("a session's gap is 0 ms; it must be at least 1 ms")),
            (
                session(1),
                -1,
                Some("the allowed lateness is -1 ms; it must be at least 0 ms"),
            ),
            (session(1), LONGEST_MS, None),
            (
                session(1),
                LONGEST_MS + 1,
                Some("the allowed lateness of 2305843009213693952 ms is too long"),
            ),
        ] {
            let window = WindowDecl {
                assigner,
                allowed_lateness_ms: lateness,
                late_ports: Vec::new(),
            };
            assert_eq!(
                check_declared(&window).err().as_deref(),
                expect,
                "{assigner:?} {lateness}"
            );
        }
    }
}
