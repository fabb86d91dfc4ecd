//! Matching released rows, and the calls of the guest that it takes: conditions that look at other rows, and matches that
//! go out.

use arrow_buffer::ScalarBuffer;
use millrace_core::block::{Block, Millis};
use millrace_core::function::{Candidates, MatchPaths, Matches, PatternFunction, Slot};
use millrace_core::{Error, Result};

use super::PatternOperator;
use super::buffer::{Buffer, Place};
use super::matcher::Found;

/// Matches that go out with one call.
const MATCHES_PER_CALL: usize = 4_096;

/// Their rows, or those of the candidates of a call: a call ends with the match that exceeds it.
const MEMBERS_PER_CALL: usize = 65_536;

/// Rows for a call, each once.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    events: Vec<u32>,
    /// Of each event the call that it was gathered for last, and its row there.
    rows: Vec<(u64, u32)>,
    call: u64,
}

impl Gathered {
    fn begin(&mut self) {
        self.events.clear();
        self.call += 1;
    }

    fn row(&mut self, event: u32) -> u32 {
        let index = event as usize;
        if self.rows.len() <= index {
            self.rows.resize(index + 1, (0, 0));
        }
        if self.rows[index].0 != self.call {
            self.rows[index] = (self.call, self.events.len() as u32);
            self.events.push(event);
        }
        self.rows[index].1
    }

    /// Adds a match, first row first.
    fn add_path(&mut self, buffer: &Buffer, node: u32, paths: &mut MatchPaths) {
        let start = paths.members.len();
        for (_, node) in buffer.path(node) {
            paths.members.push(self.row(node.event));
            paths.stages.push(u32::from(node.stage));
        }
        paths.members[start..].reverse();
        paths.stages[start..].reverse();
        paths.ends.push(paths.members.len() as u32);
    }
}

impl PatternOperator {
    /// Matches the rows of all turns, after which time has come to `upto`, and puts out what is found.
    pub(super) fn match_released(&mut self, upto: Option<Millis>, guest: &mut dyn PatternFunction) -> Result<()> {
        let turns = std::mem::take(&mut self.turns);
        let released = std::mem::take(&mut self.released);
        self.warm(&turns);
        if self.matcher.program.iterative == 0 {
            for turn in &turns {
                let key = self.keys.at(turn.slot);
                for &event in &released[turn.start..turn.start + turn.rows] {
                    self.matcher
                        .advance(turn.entry, key, self.matcher.buffer.event(event).time);
                    self.matcher.step(turn.entry, key, event, std::iter::empty());
                    self.matcher.buffer.release_event(event);
                }
            }
        } else {
            let rounds = turns.iter().map(|turn| turn.rows).max().unwrap_or(0);
            for round in 0..rounds {
                self.match_round(round, &turns, &released, guest)?;
            }
        }
        for turn in upto.iter().flat_map(|_| &turns) {
            let key = self.keys.at(turn.slot);
            self.matcher.advance(turn.entry, key, upto.unwrap_or(Millis::MIN));
        }
        (self.turns, self.released) = (turns, released);
        self.turns.clear();
        self.released.clear();
        self.put_out_found(guest)?;
        self.batches.release_freed(&mut self.matcher.buffer)
    }

    /// Looks at keys and the rows that wait in them, as [`warm`](Self::warm) does at what they have begun.
    pub(super) fn warm_slots(&self, slots: &[Slot]) {
        let first = |slot: &Slot| self.keys.get(*slot).and_then(|key| key.pending.first());
        let firsts = slots
            .iter()
            .map(|slot| first(slot).unwrap_or(0))
            .fold(0, u32::wrapping_add);
        let waiting = slots.iter().filter_map(first);
        let times = waiting
            .map(|event| self.matcher.buffer.event(event).time)
            .fold(0, i64::wrapping_add);
        std::hint::black_box((firsts, times));
    }

    /// Looks at what keys have begun, one after the other without doing anything: memory answers many such questions at once.
    fn warm(&mut self, turns: &[super::Turn]) {
        let keys = &mut self.keys;
        let first = |turn: &super::Turn| keys.at(turn.slot).partials.first().map_or(0, |partial| partial.node);
        let nodes = turns.iter().map(first).fold(0, u32::wrapping_add);
        std::hint::black_box(nodes);
    }

    /// Matches one row of each key that has so many. The guest is asked about all of them in one call.
    fn match_round(
        &mut self,
        round: usize,
        turns: &[super::Turn],
        released: &[u32],
        guest: &mut dyn PatternFunction,
    ) -> Result<()> {
        let turns = turns.iter().filter(|turn| round < turn.rows);
        let mut candidates = Candidates::default();
        self.gathered.begin();
        for turn in turns.clone() {
            let (key, event) = (self.keys.at(turn.slot), released[turn.start + round]);
            let kept = *self.matcher.buffer.event(event);
            self.matcher.advance(turn.entry, key, kept.time);
            let (gathered, buffer) = (&mut self.gathered, &self.matcher.buffer);
            self.matcher.asks(key, kept.may, &mut |node, condition| {
                candidates.rows.push(gathered.row(event));
                candidates.conditions.push(u32::from(condition));
                gathered.add_path(buffer, node, &mut candidates.paths);
            });
        }
        let count = candidates.rows.len();
        let answers = if count == 0 {
            Vec::new()
        } else {
            let rows = self.gathered_rows()?;
            guest.iterative_conditions(&rows, &candidates)?
        };
        if answers.len() != count {
            return Err(Error::internal("there are not as many answers as candidates"));
        }
        let mut answers = answers.into_iter();
        for turn in turns {
            let (key, event) = (self.keys.at(turn.slot), released[turn.start + round]);
            self.matcher.step(turn.entry, key, event, &mut answers);
            self.matcher.buffer.release_event(event);
        }
        Ok(())
    }

    fn gathered_rows(&mut self) -> Result<Block> {
        let buffer = &self.matcher.buffer;
        let events = self.gathered.events.iter();
        let places = events.clone().map(|&event| buffer.event(event).place);
        let places = places.collect::<Vec<Place>>();
        let times = events.map(|&event| buffer.event(event).time);
        Ok(Block {
            times: Some(times.collect::<ScalarBuffer<Millis>>()),
            rows: self.batches.gather(&places)?,
            keys: None,
        })
    }

    /// Gives the matches found to the guest, some thousand a call.
    fn put_out_found(&mut self, guest: &mut dyn PatternFunction) -> Result<()> {
        let found = std::mem::take(&mut self.matcher.found);
        let mut left = found.as_slice();
        while !left.is_empty() {
            let mut matches = Matches::default();
            self.gathered.begin();
            let mut taken = 0;
            for found in left.iter().take(MATCHES_PER_CALL) {
                self.gathered
                    .add_path(&self.matcher.buffer, found.node, &mut matches.paths);
                matches.times.push(found.time);
                matches.timed_out.push(found.timed_out);
                taken += 1;
                if matches.paths.members.len() >= MEMBERS_PER_CALL {
                    break;
                }
            }
            let rows = self.gathered_rows()?;
            guest.select(&rows, &matches)?;
            let (done, rest) = left.split_at(taken);
            done.iter()
                .for_each(|found: &Found| self.matcher.buffer.release(found.node));
            left = rest;
        }
        self.matcher.found = found;
        self.matcher.found.clear();
        Ok(())
    }
}
