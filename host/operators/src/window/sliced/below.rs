//! Windows of which something is in a lower tier fire piece by piece, and hold a piece's accumulators at a time.
//!
//! Of a window that is one slice what is below is put out first and what is here after it. Of others, what is
//! here of their slices goes below first: these slices get hardly any rows any more. Then all slices are gone through at
//! the same time, in the order of keys that the tier has, and the accumulators of a key merged in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow_array::{ArrayRef, BooleanArray, UInt32Array};
use arrow_select::filter::filter;
use arrow_select::take::take;
use millrace_core::backend::{ByteRows, PART_BYTES};
use millrace_core::function::{Slot, WindowFunction};
use millrace_core::{Error, Result};

use super::tier::Tiering;
use super::{Firing, Results, SlicedWindows};
use crate::changes::broken;
use crate::entry_codec::EntryCodec;
use crate::window::emission::{drop_slots, merge_slots};
use crate::window::{Context, SLOTS_PER_CALL};

/// Entries that are read ahead for all slices together.
const READ_AHEAD: usize = 4 * SLOTS_PER_CALL;

/// Entries read at a time for each, at least.
const READ_MIN: usize = if cfg!(test) { 1 } else { 16 };

/// Bytes of a piece's accumulators, about: large ones come fewer at a time.
const PIECE_BYTES: usize = if cfg!(test) { 64 } else { 4 << 20 };

/// How far the firing of such a window has come.
#[derive(Debug)]
pub(super) struct Below {
    /// Slices whose residents go below first.
    leaving: Vec<i64>,
    /// The window is this slice.
    only: Option<i64>,
    cursors: Vec<Cursor>,
    /// The next key of each cursor that has one.
    next: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    opened: bool,
}

/// How far a slice was read.
#[derive(Debug)]
struct Cursor {
    slice: i64,
    /// Where the next piece begins; `None`: there is none.
    from: Option<Vec<u8>>,
    keys: ByteRows,
    values: ByteRows,
    at: usize,
}

/// The accumulators of some keys, by key and in order of time.
#[derive(Debug, Default)]
struct Piece {
    /// Each once.
    keys: ByteRows,
    /// Which of the keys an accumulator is of.
    of: Vec<u32>,
    values: ByteRows,
    bytes: usize,
}

impl Below {
    /// Of a window with rows in these slices.
    pub(super) fn new(slices: Vec<i64>) -> Self {
        let cursor = |&slice: &i64| Cursor {
            slice,
            from: Some(EntryCodec::part(slice).to_vec()),
            keys: ByteRows::default(),
            values: ByteRows::default(),
            at: 0,
        };
        Below {
            cursors: slices.iter().map(cursor).collect(),
            only: (slices.len() == 1).then(|| slices[0]),
            leaving: if slices.len() == 1 { Vec::new() } else { slices },
            next: BinaryHeap::new(),
            opened: false,
        }
    }

    /// The next accumulators, all of a key; none: that was all.
    fn take(&mut self, tiering: &mut Tiering) -> Result<Piece> {
        let limit = (READ_AHEAD / self.cursors.len()).clamp(READ_MIN, SLOTS_PER_CALL);
        if !self.opened {
            self.opened = true;
            for (order, cursor) in self.cursors.iter_mut().enumerate() {
                let first = cursor.next_key(limit, tiering)?;
                self.next.extend(first.map(|key| Reverse((key, order))));
            }
        }
        let (mut piece, mut last) = (Piece::default(), None);
        while let Some(Reverse((key, order))) = self.next.pop() {
            let cursor = &mut self.cursors[order];
            if last.as_ref() != Some(&key) {
                if piece.of.len() >= SLOTS_PER_CALL || piece.bytes >= PIECE_BYTES {
                    self.next.push(Reverse((key, order)));
                    break;
                }
                piece.keys.push(cursor.keys.get(cursor.at));
                last = Some(key);
            }
            piece.of.push(piece.keys.len() as u32 - 1);
            let value = cursor.values.get(cursor.at);
            piece.bytes += value.len();
            piece.values.push(value);
            cursor.at += 1;
            let next = cursor.next_key(limit, tiering)?;
            self.next.extend(next.map(|key| Reverse((key, order))));
        }
        Ok(piece)
    }
}

impl Cursor {
    /// The key that comes next, as it is in every part.
    fn next_key(&mut self, limit: usize, tiering: &mut Tiering) -> Result<Option<Vec<u8>>> {
        if self.at == self.keys.len()
            && let Some(from) = self.from.take()
        {
            let part = EntryCodec::part(self.slice);
            self.at = 0;
            let (keys, values) = (&mut self.keys, &mut self.values);
            tiering.tier.read_part(part, &from, limit, keys, values)?;
            if keys.len() == limit {
                self.from = Some([keys.get(limit - 1), &[0]].concat());
            }
        }
        Ok((self.at < self.keys.len()).then(|| self.keys.get(self.at)[PART_BYTES..].to_vec()))
    }
}

impl SlicedWindows {
    /// Whether a window with rows in these slices has to fire piece by piece.
    pub(super) fn fires_by_piece(&self, context: &Context, slices: &[i64]) -> bool {
        let Some(tiering) = &self.tiering else {
            return false;
        };
        // Merged accumulators come to those that are here.
        let merges_much = slices.len() > 1 && context.slots.used() > tiering.resident_max / 2;
        merges_much || slices.iter().any(|number| !self.slices[number].is_whole())
    }

    /// One step of firing a window piece by piece.
    pub(super) fn fire_piece(
        &mut self,
        context: &mut Context,
        mut firing: Firing,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let (Results::Below(below), Some(tiering)) = (&mut firing.results, &mut self.tiering) else {
            return Err(Error::internal("a window fires from a tier that is not there"));
        };
        while let Some(&number) = below.leaving.last() {
            let locals = self.slices[&number].live_from(0, SLOTS_PER_CALL);
            if !locals.is_empty() {
                self.leave(context, number, &locals, function)?;
                self.firing = Some(firing);
                return Ok(());
            }
            below.leaving.pop();
        }
        let piece = below.take(tiering)?;
        if !piece.of.is_empty() {
            let only = below.only;
            self.emit_piece(context, firing.window, only, piece, function)?;
            self.firing = Some(firing);
            return Ok(());
        }
        match below.only {
            Some(number) => {
                firing.results = Results::Slice(number);
                self.firing = Some(firing);
                Ok(())
            }
            None => self.drop_expired(context, firing.window, function),
        }
    }

    /// Merges the accumulators of each key and puts out the results; what is below stays there.
    fn emit_piece(
        &mut self,
        context: &mut Context,
        window: i64,
        only: Option<i64>,
        piece: Piece,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let Some(tiering) = &self.tiering else {
            return Err(Error::internal("a window fires from a tier that is not there"));
        };
        let mut keys = tiering.codec.decode_part_keys(piece.keys.iter())?;
        let mut accumulators = tiering.decode(piece.values.iter())?;
        let mut of = piece.of;
        if let Some(number) = only {
            let absent = self.not_here(number, &keys)?;
            let select = |column: &ArrayRef| filter(column, &absent).map_err(broken);
            keys = keys.iter().map(select).collect::<Result<_>>()?;
            accumulators = select(&accumulators)?;
            of = (0..accumulators.len() as u32).collect();
        }
        let first = |row: usize| row == 0 || of[row] != of[row - 1];
        let (firsts, rest) = (0..of.len()).partition::<Vec<_>, _>(|&row| first(row));
        if firsts.is_empty() {
            return Ok(());
        }
        let some = |rows: &[usize]| {
            let rows = UInt32Array::from_iter_values(rows.iter().map(|&row| row as u32));
            take(&accumulators, &rows, None).map_err(broken)
        };
        let targets = firsts.iter().map(|_| context.slots.allocate()).collect::<Vec<Slot>>();
        function.import_state(0, &targets, &some(&firsts)?)?;
        if !rest.is_empty() {
            let sources = rest.iter().map(|_| context.slots.allocate()).collect::<Vec<Slot>>();
            function.import_state(0, &sources, &some(&rest)?)?;
            let merged = rest.iter().map(|&row| targets[of[row] as usize]).collect::<Vec<_>>();
            merge_slots(function, &merged, &sources)?;
            drop_slots(function, &sources)?;
            context.slots.release(&sources);
        }
        let bounds = self.grid.window(window);
        let (starts, ends) = (vec![bounds.start; targets.len()], vec![bounds.end; targets.len()]);
        function.emit(&targets, &starts, &ends, &keys, true)?;
        context.slots.release(&targets);
        Ok(())
    }

    /// Which of these keys a slice has not here.
    fn not_here(&mut self, number: i64, keys: &[ArrayRef]) -> Result<BooleanArray> {
        self.batch.load(keys)?;
        let mut found = Vec::new();
        let rows = 0..self.batch.row_count();
        self.slices[&number].keys.find(&self.batch, rows, &mut found);
        Ok(found.iter().map(|local| Some(local.is_none())).collect())
    }
}
