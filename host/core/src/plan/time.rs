//! Where blocks carry event time.
//!
//! Time travels as a system column, which costs 8 bytes a row at every crossing. So it is carried only
//! where an operator further down reads it: backwards from the readers, through everything that hands it on.

use super::{Plan, TaskIndex, TaskKind};
use crate::error::{Error, Result};
use crate::graph::{Graph, Head};

/// Sets `time_in` and `time_out` of all chains; refuses windows without event time.
pub(super) fn decide(graph: &Graph, plan: &mut Plan) -> Result<()> {
    let has = has_time(plan);
    check_windows(graph, plan, &has)?;
    let mut needed = vec![false; plan.tasks.len()];
    for index in (0..plan.tasks.len()).rev() {
        // Receivers come later in the order, so theirs is decided.
        let out = plan
            .exchanges
            .iter()
            .filter(|exchange| exchange.from == TaskIndex(index))
            .any(|exchange| needed[exchange.to.0]);
        let has_time = has[index];
        needed[index] = match &mut plan.tasks[index].kind {
            TaskKind::Source { .. } | TaskKind::Watermarks { .. } | TaskKind::Sink { .. } => false,
            TaskKind::Requests { .. } | TaskKind::Lookup { .. } => out && has_time,
            TaskKind::Chain {
                chain,
                time_in,
                time_out,
            } => {
                *time_out = out && has_time;
                *time_in = has_time
                    && match &graph.chains[chain.0 as usize].head {
                        Head::Stateless => out,
                        Head::Keyed { always_writes, .. } => out || !always_writes,
                        Head::Window { .. } => false,
                    };
                *time_in || (has_time && matches!(graph.chains[chain.0 as usize].head, Head::Window { .. }))
            }
        };
    }
    Ok(())
}

/// Whether a task's stream has event time: its own watermarks, or those of any feeder.
fn has_time(plan: &Plan) -> Vec<bool> {
    let mut has = vec![false; plan.tasks.len()];
    for index in 0..plan.tasks.len() {
        let mut feeders = plan
            .exchanges
            .iter()
            .filter(|exchange| exchange.to == TaskIndex(index))
            .peekable();
        has[index] = match &plan.tasks[index].kind {
            TaskKind::Source { watermarks, .. } => watermarks.is_some(),
            TaskKind::Watermarks { .. } => true,
            TaskKind::Chain { .. } | TaskKind::Requests { .. } | TaskKind::Lookup { .. } | TaskKind::Sink { .. } => {
                feeders.peek().is_some() && feeders.all(|exchange| has[exchange.from.0])
            }
        };
    }
    has
}

fn check_windows(graph: &Graph, plan: &Plan, has: &[bool]) -> Result<()> {
    for (task, has_time) in plan.tasks.iter().zip(has) {
        let TaskKind::Chain { chain, .. } = &task.kind else {
            continue;
        };
        if matches!(graph.chains[chain.0 as usize].head, Head::Window { .. }) && !has_time {
            let message = format!(
                "operator `{}` is a window over event time, but not all of its inputs have event time; \
                 assign it with `watermarks`",
                task.name
            );
            return Err(Error::user("GR0010", message));
        }
    }
    Ok(())
}
