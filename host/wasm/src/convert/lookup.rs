//! Lookups in tables, from the contract's declarations to the core's.

use millrace_core::Result;
use millrace_core::graph::{LookupDecl, TableAccess};

use super::{DECLARATIONS_MAX, Tables, connector, refuse, reject_policy};
use crate::bindings::dataflow;

impl Tables {
    pub(super) fn lookup(&self, lookup: dataflow::Lookup) -> Result<LookupDecl> {
        if lookup.key.len() > DECLARATIONS_MAX {
            let count = lookup.key.len();
            return refuse(format!(
                "a table has {count} key columns; the limit is {DECLARATIONS_MAX}"
            ));
        }
        let (table, rows) = (self.declared(lookup.table)?, self.declared(lookup.schema)?);
        Ok(LookupDecl {
            connector: connector(lookup.connector),
            table: table.schema.clone(),
            table_hints: table.hints.clone(),
            key: lookup.key,
            access: match lookup.access {
                dataflow::TableAccess::Full(full) => TableAccess::Full {
                    refresh_ms: full.refresh_ms,
                    bytes_max: full.bytes_max,
                },
                dataflow::TableAccess::Cached(cached) => TableAccess::Cached {
                    rows_max: cached.rows_max,
                    expire_after_ms: cached.expire_after_ms,
                    remembers_missing: cached.remembers_missing,
                },
                dataflow::TableAccess::Uncached => TableAccess::Uncached,
            },
            outer: lookup.outer,
            on_reject: reject_policy(lookup.on_reject),
            schema: rows.schema.clone(),
            hints: rows.hints.clone(),
        })
    }
}
