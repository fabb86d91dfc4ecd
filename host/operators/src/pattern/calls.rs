//! Matching released rows, and the calls of the guest that it takes: conditions that look at other rows, and matches that
//! go out.

use std::ops::Range;

use arrow_buffer::ScalarBuffer;
use millrace_core::block::{Block, Millis};
use millrace_core::function::{Candidates, Effects, MatchPaths, Matches, PatternFunction, Slot};
use millrace_core::{Error, Result};
use millrace_pattern::{Buffer, Incoming, NO_NODE, Place};

use super::batches::Owner;
use super::{PatternOperator, Turn};

/// Matches that go out with one call.
const MATCHES_PER_CALL: usize = 4_096;

/// Their rows, or those of the candidates of a call: a call ends with the match that exceeds it.
const MEMBERS_PER_CALL: usize = 65_536;

/// Rows whose keys are looked at before the first of them is matched.
const WARMED_ROWS: usize = 128;

/// Matches whose paths are looked at before the first of them is gone along.
const WARMED_MATCHES: usize = 64;

/// Rows for a call, each event once.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    places: Vec<Place>,
    times: Vec<Millis>,
}

impl Gathered {
    fn begin(&mut self, buffer: &mut Buffer) {
        self.places.clear();
        self.times.clear();
        buffer.begin_gathering();
    }

    fn add(&mut self, place: Place, time: Millis) -> u32 {
        self.places.push(place);
        self.times.push(time);
        self.places.len() as u32 - 1
    }

    fn row(&mut self, event: u32, buffer: &mut Buffer) -> u32 {
        let next = self.places.len() as u32;
        let row = buffer.gather(event, next);
        if row == next {
            let event = buffer.event(event);
            self.add(event.place, event.time);
        }
        row
    }

    /// Adds a match, first row first.
    fn add_path(&mut self, buffer: &mut Buffer, mut node: u32, paths: &mut MatchPaths) {
        let start = paths.members.len();
        while node != NO_NODE {
            let kept = *buffer.node(node);
            paths.members.push(self.row(kept.event, buffer));
            paths.stages.push(u32::from(kept.stage));
            node = kept.parent;
        }
        paths.members[start..].reverse();
        paths.stages[start..].reverse();
        paths.ends.push(paths.members.len() as u32);
    }
}

impl PatternOperator {
    /// Matches the rows of all turns, and puts out what is found: what has become of their keys, which are those of the call.
    pub(super) fn match_turns(&mut self, slots: &[Slot], guest: &mut dyn PatternFunction) -> Result<Effects> {
        let mut turns = std::mem::take(&mut self.turns);
        let mut touched = Vec::with_capacity(turns.len());
        if self.matcher.program.iterative == 0 {
            for turns in turns.chunks(WARMED_ROWS) {
                self.warm(turns);
                for &Turn { slot, mut row } in turns {
                    let key = self.keys.at(slot);
                    self.matcher.advance(key, row.time);
                    self.matcher.step(key, &mut row, std::iter::empty());
                    self.end_turn(slot, row);
                    // Of a key with several rows the last one decides.
                    touched.push(self.flag(slot));
                }
            }
        } else {
            self.match_in_rounds(&mut turns, guest)?;
            touched.extend(slots.iter().map(|&slot| self.flag(slot)));
        }
        turns.clear();
        self.turns = turns;
        self.put_out_found(guest)?;
        self.release_freed()?;
        Ok(Effects {
            touched,
            ..Effects::default()
        })
    }

    fn end_turn(&mut self, slot: Slot, row: Incoming) {
        if let Some(event) = self.matcher.buffer.end(row) {
            self.batches.set_owner(row.place, Owner::Event(event));
        }
        self.keys.watch(slot, &self.matcher);
    }

    /// Gives up the rows that nobody wants any more.
    pub(super) fn release_freed(&mut self) -> Result<()> {
        self.batches.release_freed(&mut self.matcher.buffer, &mut self.waiting)
    }

    /// Looks at what keys have begun, one after the other without doing anything: memory answers many such questions at once.
    fn warm(&mut self, turns: &[Turn]) {
        let (keys, buffer) = (&self.keys, &self.matcher.buffer);
        let begun = |turn: &Turn| keys.get(turn.slot).is_some_and(|key| !key.partials.is_empty());
        let count = turns.iter().filter(|turn| begun(turn)).count();
        let partials = |turn: &Turn| keys.get(turn.slot).map_or(&[][..], |key| key.partials.as_slice());
        let first = |turn| partials(turn).first().map_or(0, |partial| partial.edges);
        let edges = turns.iter().map(first).fold(0, u64::wrapping_add);
        let nodes = turns.iter().flat_map(partials).map(|partial| buffer.node(partial.node));
        let parents = nodes.map(|node| node.parent).fold(0, u32::wrapping_add);
        buffer.warm_free(turns.len());
        std::hint::black_box((count, edges, parents));
    }

    /// Matches a row of each key at a time: the guest is asked about all of them in one call.
    fn match_in_rounds(&mut self, turns: &mut [Turn], guest: &mut dyn PatternFunction) -> Result<()> {
        // Rows of a key stay in their order.
        turns.sort_by_key(|turn| turn.slot);
        let mut keys = turns.chunk_by(|a, b| a.slot == b.slot).collect::<Vec<_>>();
        while !keys.is_empty() {
            self.match_round(keys.iter().map(|turns| turns[0]), guest)?;
            keys.iter_mut().for_each(|turns| *turns = &turns[1..]);
            keys.retain(|turns| !turns.is_empty());
        }
        Ok(())
    }

    /// Matches rows of different keys.
    fn match_round(&mut self, turns: impl Iterator<Item = Turn>, guest: &mut dyn PatternFunction) -> Result<()> {
        let mut candidates = Candidates::default();
        self.gathered.begin(&mut self.matcher.buffer);
        let asked = turns.map(|turn| (turn, self.ask(&turn, &mut candidates)));
        let asked = asked.collect::<Vec<_>>();
        let count = candidates.rows.len();
        let (mut answers, mut aside) = (Vec::new(), Vec::new());
        if count > 0 {
            let rows = self.gathered_rows()?;
            answers = guest.iterative_conditions(&rows, &candidates)?;
            aside = guest.take_set_aside();
        }
        if answers.len() != count {
            return Err(Error::internal("there are not as many answers as candidates"));
        }
        for (Turn { slot, mut row }, candidate) in asked {
            let own = candidates.rows.get(candidate.start).filter(|_| !candidate.is_empty());
            if !own.is_some_and(|own| aside.contains(own)) {
                let answers = answers[candidate].iter().copied();
                self.matcher.step(self.keys.at(slot), &mut row, answers);
            }
            self.end_turn(slot, row);
        }
        Ok(())
    }

    /// Adds what has to be asked of a row, which is these candidates.
    fn ask(&mut self, turn: &Turn, candidates: &mut Candidates) -> Range<usize> {
        let (key, row) = (self.keys.at(turn.slot), turn.row);
        self.matcher.advance(key, row.time);
        let mut asked = Vec::new();
        self.matcher
            .asks(key, row.may, &mut |node, condition| asked.push((node, condition)));
        let start = candidates.rows.len();
        if !asked.is_empty() {
            let own = self.gathered.add(row.place, row.time);
            for (node, condition) in asked {
                candidates.rows.push(own);
                candidates.conditions.push(u32::from(condition));
                self.gathered
                    .add_path(&mut self.matcher.buffer, node, &mut candidates.paths);
            }
        }
        start..candidates.rows.len()
    }

    fn gathered_rows(&mut self) -> Result<Block> {
        Ok(Block {
            times: Some(self.gathered.times.iter().copied().collect::<ScalarBuffer<Millis>>()),
            rows: self.batches.gather(&self.gathered.places)?,
            keys: None,
        })
    }

    /// Gives the matches found to the guest, some thousand a call.
    pub(super) fn put_out_found(&mut self, guest: &mut dyn PatternFunction) -> Result<()> {
        let found = std::mem::take(&mut self.matcher.found);
        let mut left = found.as_slice();
        while !left.is_empty() {
            let mut matches = Matches::default();
            self.gathered.begin(&mut self.matcher.buffer);
            let mut taken = 0;
            for (index, found) in left.iter().take(MATCHES_PER_CALL).enumerate() {
                if index % WARMED_MATCHES == 0 {
                    let next = &left[index..left.len().min(index + WARMED_MATCHES)];
                    self.matcher.buffer.warm_paths(next.iter().map(|found| found.node));
                }
                self.gathered
                    .add_path(&mut self.matcher.buffer, found.node, &mut matches.paths);
                // Its rows stay where they are until the freed ones are given up.
                self.matcher.buffer.release(found.node);
                matches.times.push(found.time);
                matches.timed_out.push(found.timed_out);
                taken += 1;
                if matches.paths.members.len() >= MEMBERS_PER_CALL {
                    break;
                }
            }
            let rows = self.gathered_rows()?;
            guest.select(&rows, &matches)?;
            left = &left[taken..];
        }
        self.matcher.found = found;
        self.matcher.found.clear();
        Ok(())
    }
}
