//! The calls of a pattern, one row or match a call.
//!
//! A row that traps in a condition never was: the pattern is told so ([`PatternFunction::take_set_aside`]), and the rows around
//! it follow each other. A match that traps is found and not put out.

use arrow_array::UInt32Array;
use arrow_select::take::take_record_batch;
use millrace_core::block::Block;
use millrace_core::function::{Candidates, MatchPaths, Matches, PatternFunction, RowConditions, TriedFunction};
use millrace_core::{Error, Result};

use super::{CarefulCalls, Entry};
use crate::changes::broken;

impl<F: TriedFunction + PatternFunction> PatternFunction for CarefulCalls<'_, F> {
    fn conditions(&mut self, rows: &Block) -> Result<RowConditions> {
        self.careful.rows_aside.clear();
        if !self.careful.is_by_entry() {
            return self.function.conditions(rows);
        }
        let mut all = RowConditions::default();
        // Who orders rows says so of all of them; a row that is set aside is nowhere.
        let mut ordered = false;
        for row in 0..rows.row_count() {
            let one = rows.slice(row, 1);
            match self.attempt(|function| function.conditions(&one))? {
                Ok(conditions) => {
                    ordered |= !conditions.order_ends.is_empty();
                    all.holds.extend(conditions.holds);
                    all.order.extend(conditions.order);
                    all.order_ends.push(all.order.len() as u32);
                }
                Err(fault) => {
                    all.holds.push(0);
                    all.order_ends.push(all.order.len() as u32);
                    self.careful.rows_aside.push(row as u32);
                    self.set_aside(Entry::Row(one), fault);
                }
            }
        }
        if !ordered {
            all.order_ends.clear();
        }
        Ok(all)
    }

    fn iterative_conditions(&mut self, rows: &Block, candidates: &Candidates) -> Result<Vec<bool>> {
        self.careful.rows_aside.clear();
        if !self.careful.is_by_entry() {
            return self.function.iterative_conditions(rows, candidates);
        }
        let mut answers = vec![false; candidates.rows.len()];
        for (index, answer) in answers.iter_mut().enumerate() {
            let row = candidates.rows[index];
            // Candidates of a row follow each other.
            if self.careful.rows_aside.last() == Some(&row) {
                continue;
            }
            let (rows, paths) = path(rows, &candidates.paths, index, Some(row))?;
            let one = Candidates {
                rows: vec![rows.row_count() as u32 - 1],
                conditions: vec![candidates.conditions[index]],
                paths,
            };
            match self.attempt(|function| function.iterative_conditions(&rows, &one))? {
                Ok(answers) => *answer = answers == [true],
                Err(fault) => {
                    self.careful.rows_aside.push(row);
                    self.set_aside(Entry::Row(rows.slice(rows.row_count() - 1, 1)), fault);
                }
            }
        }
        Ok(answers)
    }

    fn select(&mut self, rows: &Block, matches: &Matches) -> Result<()> {
        if !self.careful.is_by_entry() {
            return self.function.select(rows, matches);
        }
        for (index, &time) in matches.times.iter().enumerate() {
            let (rows, paths) = path(rows, &matches.paths, index, None)?;
            let one = Matches {
                paths,
                times: vec![time],
                timed_out: vec![matches.timed_out[index]],
            };
            if let Err(fault) = self.attempt(|function| function.select(&rows, &one))? {
                self.set_aside(Entry::Match { rows, time }, fault);
            }
        }
        Ok(())
    }

    fn put_out(&mut self, port: u32, rows: Block) {
        self.function.put_out(port, rows);
    }

    fn take_set_aside(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.careful.rows_aside)
    }
}

/// A path alone with its rows, and one more.
fn path(rows: &Block, paths: &MatchPaths, index: usize, more: Option<u32>) -> Result<(Block, MatchPaths)> {
    let end = |index: usize| paths.ends.get(index).map(|end| *end as usize);
    let start = index.checked_sub(1).map_or(Some(0), end);
    let range = start.zip(end(index)).map(|(start, end)| start..end);
    let range = range.ok_or_else(|| Error::internal("a match has no end"))?;
    let (members, stages) = (&paths.members[range.clone()], &paths.stages[range]);
    let chosen = members.iter().copied().chain(more).collect::<Vec<_>>();
    let times = rows.times.as_ref();
    let block = Block {
        times: times.map(|times| chosen.iter().map(|&row| times[row as usize]).collect()),
        rows: take_record_batch(&rows.rows, &UInt32Array::from(chosen)).map_err(broken)?,
        keys: None,
    };
    let paths = MatchPaths {
        members: (0..members.len() as u32).collect(),
        stages: stages.to_vec(),
        ends: vec![members.len() as u32],
    };
    Ok((block, paths))
}
