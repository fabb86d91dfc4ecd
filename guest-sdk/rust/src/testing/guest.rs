//! Calls of a chain: what goes in, and what comes out, with the schemas that both are read by.

use millrace_pattern::Program;

use super::collections::{self, Collections};
use super::datum::{Column, Datum, Key, columns, read_rows, show, time_column, write_rows};
use super::patterns;
use super::plan::is_window;
use crate::abi::Instance;
use crate::abi::host::recorded;
use crate::bindings::dataflow::{Chain, Graph, Head, StateDecl};
use crate::bindings::operators::{CallError, CallResult, Candidates, Moment, OpenConfig, RowConditions};
use crate::bindings::types;
use crate::block::Block;
use crate::chain::Work;
use crate::contract::to_contract;
use crate::value::Value;
use crate::window::in_words;

/// A row between tasks.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) values: Vec<Datum>,
    /// Event time; the least number where there is none.
    pub(crate) time: i64,
    /// As the sender computed it.
    pub(crate) key: Key,
}

/// What there is to know of a chain.
#[derive(Debug)]
pub(crate) struct ChainInfo {
    pub(crate) number: u32,
    pub(crate) chain: Chain,
    pub(crate) inputs: Vec<Vec<Column>>,
    pub(crate) ports: Vec<PortInfo>,
    pub(crate) key: Vec<Column>,
    pub(crate) states: Vec<StateInfo>,
    pub(crate) has_time: bool,
    /// Rows have no key: state is the subtask's.
    pub(crate) is_unkeyed: bool,
    /// What it looks for, if it begins with a pattern.
    pub(crate) program: Option<Program>,
}

/// A port and the columns of its blocks.
#[derive(Debug)]
pub(crate) struct PortInfo {
    pub(crate) values: usize,
    pub(crate) has_time: bool,
    columns: Vec<Column>,
}

/// A state and the column of its values.
#[derive(Debug, Clone)]
pub(crate) struct StateInfo {
    pub(crate) declared: StateDecl,
    pub(crate) columns: Vec<Column>,
    /// Schemas of earlier versions that the guest migrates.
    pub(crate) migrations: Vec<Vec<Column>>,
    pub(crate) is_large: bool,
}

impl ChainInfo {
    /// An error is for the author of the pipeline.
    pub(crate) fn new(graph: &Graph, number: u32, has_time: bool) -> Result<Self, String> {
        let chain = graph.chains[number as usize].clone();
        let schema = |schema: u32| columns(&graph.schemas[schema as usize]);
        let port = |port: &crate::bindings::dataflow::Port| {
            let mut columns = schema(port.schema);
            let values = columns.len();
            let has_time = has_time || port.computes_time;
            columns.extend(has_time.then(time_column));
            columns.extend(port.computed_key.map(schema).into_iter().flatten());
            PortInfo {
                values,
                has_time,
                columns,
            }
        };
        let state = |state: &StateDecl| {
            let columns = schema(state.schema);
            StateInfo {
                is_large: collections::Collection::declared(state, &columns).is_some(),
                migrations: state.migrations.iter().map(|old| schema(*old)).collect(),
                declared: state.clone(),
                columns,
            }
        };
        let (key, states) = match &chain.head {
            Head::Stateless => (Vec::new(), Vec::new()),
            Head::Unkeyed(unkeyed) => (
                columns(&to_contract(&[u32::field("$subtask")])),
                unkeyed.states.iter().map(state).collect(),
            ),
            Head::Keyed(keyed) => (schema(keyed.key_schema), keyed.states.iter().map(state).collect()),
            Head::Window(window) => (schema(window.key_schema), vec![state(&window.accumulator)]),
            Head::Pattern(pattern) => (schema(pattern.key_schema), Vec::new()),
        };
        let program = match &chain.head {
            Head::Pattern(pattern) => Some(patterns::compile(&pattern.pattern)),
            Head::Stateless | Head::Unkeyed(_) | Head::Keyed(_) | Head::Window(_) => None,
        };
        let name = || &graph.operators[chain.operators[0] as usize].name;
        let program = program
            .transpose()
            .map_err(|error| format!("operator `{}`: {error}", name()))?;
        Ok(ChainInfo {
            number,
            inputs: chain.inputs.iter().map(|input| schema(*input)).collect(),
            ports: chain.ports.iter().map(port).collect(),
            key,
            states,
            has_time,
            is_unkeyed: matches!(chain.head, Head::Unkeyed(_)),
            program,
            chain,
        })
    }

    /// The windows that its states are of, in words, if it is known.
    pub(crate) fn windows(&self) -> Option<String> {
        match &self.chain.head {
            Head::Keyed(keyed) => keyed.windows.clone(),
            Head::Window(window) => Some(in_words(&window.window.assigner)),
            Head::Stateless | Head::Unkeyed(_) | Head::Pattern(_) => None,
        }
    }

    /// Whether its blocks of rows carry event time.
    pub(crate) fn takes_time(&self) -> bool {
        self.has_time && !is_window(&self.chain.head)
    }

    /// Its large states, empty.
    pub(crate) fn collections(&self) -> Collections {
        let declared = (0..).zip(&self.states);
        let empty = |(number, state): (u32, &StateInfo)| {
            let collection = collections::Collection::declared(&state.declared, &state.columns)?;
            Some((number, collection))
        };
        declared.filter_map(empty).collect()
    }

    /// How it is opened.
    pub(crate) fn config(&self, subtask: u32, parallelism: u32, max_parallelism: u32, attempt: u32) -> OpenConfig {
        OpenConfig {
            subtask,
            parallelism,
            max_parallelism,
            attempt,
            time_in: self.takes_time(),
            time_out: self.has_time,
            careful: false,
        }
    }

    /// Rows of an input as a block.
    pub(crate) fn block(&self, input: u32, rows: &[Row]) -> Block {
        let mut columns = self.inputs[input as usize].clone();
        let mut values: Vec<Vec<Datum>> = rows.iter().map(|row| row.values.clone()).collect();
        if self.takes_time() {
            columns.push(time_column());
            let times = rows.iter().map(|row| Datum::Integer(row.time.into()));
            values.iter_mut().zip(times).for_each(|(row, time)| row.push(time));
        }
        write_rows(&columns, values.iter().map(Vec::as_slice))
    }

    /// Keys as a block.
    pub(crate) fn keys(&self, keys: &[Key]) -> Block {
        write_rows(&self.key, keys.iter().map(Vec::as_slice))
    }

    fn rows(&self, port: u32, block: &types::Block) -> Vec<Row> {
        let info = &self.ports[port as usize];
        let block = Block::new(block.rows, block.data.clone(), block.ends.clone());
        let row = |mut values: Vec<Datum>| {
            let mut rest = values.split_off(info.values);
            let time = match info.has_time {
                true => rest.remove(0).integer() as i64,
                false => i64::MIN,
            };
            let key = rest;
            Row { values, time, key }
        };
        read_rows(&info.columns, &block).into_iter().map(row).collect()
    }
}

/// A row that a function refused.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) operator: u32,
    pub(crate) cause: String,
    pub(crate) row: String,
}

/// A chain of an instance that is being called, and what that has brought so far.
pub(crate) struct Guest<'g> {
    pub(crate) instance: &'g mut Instance,
    pub(crate) info: &'g ChainInfo,
    pub(crate) at: Moment,
    /// Rows by port.
    pub(crate) outputs: Vec<(u32, Vec<Row>)>,
    pub(crate) refused: Vec<Refused>,
}

impl Guest<'_> {
    /// Rows of an input through the chain.
    pub(crate) fn rows(&mut self, input: u32, slots: &[u32], rows: &[Row]) -> CallResult {
        let block = self.info.block(input, rows);
        let work = Work::Rows {
            block: &block,
            slots,
            input,
        };
        let columns = &self.info.inputs[input as usize];
        self.call(&work, |entry| show(columns, &rows[entry].values))
    }

    /// Any other call.
    pub(crate) fn call(&mut self, work: &Work<'_>, entry: impl Fn(usize) -> String) -> CallResult {
        let result = self.instance.call(self.info.number, self.at, work);
        let result = self.returned(result);
        self.gather(&result, entry);
        result
    }

    /// Rows of an input to accumulators.
    pub(crate) fn accumulate(&mut self, input: u32, slots: &[u32], rows: &[Row]) {
        let block = self.info.block(input, rows);
        let (number, at) = (self.info.number, self.at);
        let result = self.instance.accumulate(number, input, at, slots, &block);
        let result = self.returned(result);
        self.gather(&result, |_| String::new());
    }

    /// What a pattern has to know of rows.
    pub(crate) fn conditions(&mut self, rows: &[Row]) -> RowConditions {
        let block = self.info.block(0, rows);
        let conditions = self.instance.conditions(self.info.number, &block);
        self.returned(conditions)
    }

    /// Which conditions hold of rows beside the rows of matches that have begun.
    pub(crate) fn iterative_conditions(&mut self, rows: &[Row], candidates: &Candidates) -> Vec<bool> {
        let block = self.info.block(0, rows);
        let answers = self.instance.iterative_conditions(self.info.number, &block, candidates);
        self.returned(answers)
    }

    /// Accumulators to accumulators.
    pub(crate) fn merge(&mut self, targets: &[u32], sources: &[u32]) {
        let head = self.instance.head(self.info.number);
        let merged = head.and_then(|head| head.merge(targets, sources));
        self.returned(merged);
    }

    /// Values of a state.
    pub(crate) fn export(&mut self, state: usize, slots: &[u32]) -> Vec<Datum> {
        let head = self.instance.head(self.info.number);
        let block = head.and_then(|head| head.export_state(state as u32, slots));
        let block = self.returned(block);
        let values = read_rows(&self.info.states[state].columns, &block);
        values.into_iter().flatten().collect()
    }

    /// Sets values of a state.
    pub(crate) fn import(&mut self, state: usize, slots: &[u32], values: &[Datum]) {
        let columns = &self.info.states[state].columns;
        let block = write_rows(columns, values.iter().map(std::slice::from_ref));
        let head = self.instance.head(self.info.number);
        let imported = head.and_then(|head| head.import_state(state as u32, slots, &block));
        self.returned(imported);
    }

    /// Values of a state from those of an earlier version.
    pub(crate) fn migrate(&mut self, state: usize, migration: usize, old: &[Datum]) -> Vec<Datum> {
        let info = &self.info.states[state];
        let block = write_rows(&info.migrations[migration], old.iter().map(std::slice::from_ref));
        let head = self.instance.head(self.info.number);
        let migrated = head.and_then(|head| head.migrate_state(state as u32, migration as u32, &block));
        let migrated = self.returned(migrated);
        read_rows(&info.columns, &migrated).into_iter().flatten().collect()
    }

    /// Forgets slots.
    pub(crate) fn drop_state(&mut self, slots: &[u32]) {
        if let Ok(head) = self.instance.head(self.info.number) {
            head.drop_state(slots);
        }
    }

    fn returned<T>(&self, result: Result<T, CallError>) -> T {
        result.unwrap_or_else(|error| panic!("chain {}: {}", self.info.number, error.message))
    }

    fn gather(&mut self, result: &CallResult, entry: impl Fn(usize) -> String) {
        let staged = recorded(|recorded| std::mem::take(&mut recorded.blocks));
        for (port, block) in &staged {
            self.outputs.push((*port, self.info.rows(*port, block)));
        }
        for output in &result.outputs {
            self.outputs
                .push((output.port, self.info.rows(output.port, &output.block)));
        }
        let rejections = &result.rejections;
        let mut start = 0;
        let columns = rejections.entries.iter().zip(&rejections.operators);
        for ((&at, &operator), &end) in columns.zip(&rejections.cause_ends) {
            self.refused.push(Refused {
                operator,
                cause: rejections.causes[start..end as usize].to_owned(),
                row: entry(at as usize),
            });
            start = end as usize;
        }
    }
}
