//! What tests say in place of tables that rows are looked up in.

use std::collections::BTreeMap;

use super::datum::{Column, Datum, columns};
use super::guest::Row;
use super::runner::Runner;
use crate::bindings::dataflow::{Lookup, OperatorKind};

/// Rows of tables, by the operator that looks rows up in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    rows: BTreeMap<u32, Vec<Vec<Datum>>>,
}

impl Tables {
    /// The table has these rows, and no others, from now on.
    pub(crate) fn set(&mut self, operator: u32, rows: Vec<Vec<Datum>>) {
        self.rows.insert(operator, rows);
    }

    /// Rows with what is found for them. `key` is the column of their keys, `columns` those of the table.
    pub(crate) fn join(
        &self,
        (operator, name): (u32, &str),
        lookup: &Lookup,
        (key, columns): (&Column, &[Column]),
        rows: &[Row],
    ) -> Vec<Row> {
        let Some(table) = self.rows.get(&operator) else {
            panic!("`{name}` looks rows up in a table: say what is in it with `testing::Job::table`");
        };
        let is_plain = matches!(&lookup.key[..], [column]
            if columns[*column as usize].children.is_empty() == key.children.is_empty());
        let mut joined = Vec::new();
        for row in rows {
            let found = matches_of(&row.values[1], is_plain, &lookup.key, table);
            let with = |found: Datum| Row {
                values: vec![row.values[0].clone(), found],
                ..row.clone()
            };
            if found.is_empty() && lookup.outer {
                joined.push(with(Datum::Null));
            }
            joined.extend(found.into_iter().map(|found| with(Datum::Struct(found.clone()))));
        }
        joined
    }
}

/// The rows of a table with a key.
fn matches_of<'t>(key: &Datum, is_plain: bool, columns: &[u32], table: &'t [Vec<Datum>]) -> Vec<&'t Vec<Datum>> {
    let members = match key {
        Datum::Null => return Vec::new(),
        key if is_plain => std::slice::from_ref(key),
        Datum::Struct(members) => members,
        other => panic!("{other:?} is no key of several columns"),
    };
    let is_match = |row: &&Vec<Datum>| {
        let mut pairs = members.iter().zip(columns);
        pairs.all(|(member, column)| *member != Datum::Null && *member == row[*column as usize])
    };
    table.iter().filter(is_match).collect()
}

impl Runner {
    /// Rows with what is found for them in a table.
    pub(super) fn look_up(&self, task: usize, rows: &[Row]) -> Vec<Row> {
        let operator = self.plan.tasks[task].operator;
        let declared = &self.graph.operators[operator as usize];
        let OperatorKind::Lookup(lookup) = &declared.kind else {
            panic!("a task of a lookup is of an operator of a lookup");
        };
        let table = columns(&self.graph.schemas[lookup.table as usize]);
        let keys = &self.columns_into(task)[1];
        self.tables
            .join((operator, &declared.name), lookup, (keys, &table), rows)
    }
}
