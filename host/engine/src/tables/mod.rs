//! Tables that rows are looked up in, as a job has them: read whole, once for all subtasks ([`Whole`]), or asked for keys
//! by each subtask ([`Asker`]), off the slots' threads.
//!
//! They belong to the job, not to an attempt: after a restart a table is not read anew. What becomes of rows is decided by
//! `millrace_operators::lookup`.

mod asked;
mod whole;

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_core::Result;
use millrace_core::connector::{KeyedTable, Rows};
use millrace_core::graph::{Graph, OperatorIndex, OperatorKind, RejectPolicy};

pub(crate) use self::asked::Asker;
pub(crate) use self::whole::Whole;
use crate::prepare::{Connectors, JobOptions, Table};
use crate::worker::{ROW_REJECTED, rejected_by};

/// A table that is there.
#[derive(Clone)]
pub(crate) enum OpenTable {
    /// Its rows are in memory.
    Whole(Arc<Whole>),
    /// Each subtask asks for keys.
    Keyed(Arc<dyn KeyedTable>),
}

/// Reads tables that are read whole, and checks the others.
pub(crate) fn open(
    graph: &Graph,
    connectors: &Connectors,
    options: &JobOptions,
) -> Result<BTreeMap<OperatorIndex, OpenTable>> {
    let mut tables = BTreeMap::new();
    for (index, table) in &connectors.tables {
        let operator = &graph.operators[index.0 as usize];
        let OperatorKind::Lookup(declared) = &operator.kind else {
            continue;
        };
        let opened = match table {
            Table::Whole(source) => {
                Whole::read(&operator.name, declared, source.clone(), options.log.clone()).map(OpenTable::Whole)
            }
            Table::Keyed(table) => table.check().map(|()| OpenTable::Keyed(table.clone())),
        };
        let opened = opened.map_err(|error| match error.code() {
            // Says so itself.
            ROW_REJECTED => error,
            _ => error.context(format!("operator `{}`", operator.name)),
        })?;
        tables.insert(*index, opened);
    }
    Ok(tables)
}

/// How many rows of a table could not be read, if that does not matter.
pub(crate) fn skipped(rows: &Rows, name: &str, policy: &RejectPolicy) -> Result<u64> {
    match (policy, rows.rejected.first()) {
        (RejectPolicy::Skip, _) | (_, None) => Ok(rows.rejected.len() as u64),
        (RejectPolicy::Fail | RejectPolicy::DeadLetter(_), Some(rejected)) => Err(rejected_by(name, rejected)),
    }
}
