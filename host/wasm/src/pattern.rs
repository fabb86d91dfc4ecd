//! The calls of a chain that begins with a pattern: conditions of rows, and matches that go out.

use millrace_core::block::Block;
use millrace_core::function::{Candidates, MatchPaths, Matches, PatternFunction, RowConditions};
use millrace_core::{Error, Result};

use crate::bindings::operators;
use crate::chain::GuestChain;
use crate::chain::entries::Entries;
use crate::examine;
use crate::instance::CallFailure;

fn paths(paths: &MatchPaths) -> operators::MatchPaths {
    operators::MatchPaths {
        members: paths.members.clone(),
        stages: paths.stages.clone(),
        ends: paths.ends.clone(),
    }
}

impl GuestChain {
    /// The same as [`error`](Self::error) for a call whose entries are not rows: `row` says which row to show.
    fn entry_error(
        &mut self,
        failure: CallFailure,
        rows: &Block,
        what: &str,
        row: impl Fn(usize) -> Option<u32>,
    ) -> Error {
        self.note_fault(&failure);
        let row = failure.entry.and_then(|entry| row(entry as usize));
        let place = match row.filter(|row| (*row as usize) < rows.row_count()) {
            Some(row) => format!(", {what} {{{}}}", examine::render_row(&rows.rows, row as usize)),
            None => String::new(),
        };
        let name = self.info.operator_name(failure.operator);
        failure.into_error().context(format!("{name}{place}"))
    }

    fn check_answers(&self, what: &str, answers: usize, asked: usize) -> Result<()> {
        if answers == asked {
            return Ok(());
        }
        Err(self.malformed(&format!("{answers} answers to {asked} {what}")))
    }

    /// Bytes to order rows by are there for each row, if the pattern orders any, and for none otherwise.
    fn check_order(&self, conditions: &operators::RowConditions) -> Result<()> {
        let ends = &conditions.order_ends;
        let expected = if self.info.orders_equal_times {
            conditions.holds.len()
        } else {
            0
        };
        let last = ends.last().map_or(0, |last| *last as usize);
        match ends.len() == expected && ends.is_sorted() && last == conditions.order.len() {
            true => Ok(()),
            false => Err(self.malformed("what rows of equal time are ordered by is not that of each row")),
        }
    }
}

impl PatternFunction for GuestChain {
    fn conditions(&mut self, rows: &Block) -> Result<RowConditions> {
        self.encode(rows);
        let (chain, moment) = (self.info.index, self.moment);
        let wire = self.take_scratch();
        let result = self.call(|guest, store| guest.call_conditions(store, chain, moment, &wire));
        self.scratch = wire;
        let conditions = result.map_err(|failure| self.error(failure, Some(rows)))?;
        self.check_answers("rows", conditions.holds.len(), rows.row_count())?;
        self.check_order(&conditions)?;
        let known = match self.info.conditions {
            0 => 0,
            count => u64::MAX >> (64 - count),
        };
        match conditions.holds.iter().any(|conditions| conditions & !known != 0) {
            true => Err(self.malformed("a row has a condition that the pattern does not have")),
            false => Ok(RowConditions {
                holds: conditions.holds,
                order: conditions.order,
                order_ends: conditions.order_ends,
            }),
        }
    }

    fn iterative_conditions(&mut self, rows: &Block, candidates: &Candidates) -> Result<Vec<bool>> {
        self.encode(rows);
        let (chain, moment) = (self.info.index, self.moment);
        let wire = self.take_scratch();
        let asked = operators::Candidates {
            rows: candidates.rows.clone(),
            conditions: candidates.conditions.clone(),
            paths: paths(&candidates.paths),
        };
        let result = self.call(|guest, store| guest.call_iterative_conditions(store, chain, moment, &wire, &asked));
        self.scratch = wire;
        let row = |entry: usize| candidates.rows.get(entry).copied();
        let answers = result.map_err(|failure| self.entry_error(failure, rows, "row", row))?;
        self.check_answers("candidates", answers.len(), candidates.rows.len())?;
        Ok(answers)
    }

    fn select(&mut self, rows: &Block, matches: &Matches) -> Result<()> {
        self.encode(rows);
        let (chain, moment) = (self.info.index, self.moment);
        let wire = self.take_scratch();
        let given = operators::Matches {
            paths: paths(&matches.paths),
            times: matches.times.clone(),
            timed_out: matches.timed_out.clone(),
        };
        let result = self.call(|guest, store| guest.call_select(store, chain, moment, &wire, &given));
        self.scratch = wire;
        let last = |entry: usize| {
            let end = matches.paths.ends.get(entry)?.checked_sub(1)?;
            matches.paths.members.get(end as usize).copied()
        };
        let result = result.map_err(|failure| self.entry_error(failure, rows, "match that ends with row", last))?;
        self.finish_ok(result, Entries::None, matches.times.len()).map(drop)
    }

    fn put_out(&mut self, port: u32, rows: Block) {
        self.output.blocks.push((port, rows));
    }
}
