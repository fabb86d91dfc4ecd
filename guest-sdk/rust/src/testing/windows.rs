//! The host's half of a chain that begins with windows of the host: tumbling, sliding, session.
//!
//! As in the host, a sliding window is cut into slices that its neighbours share, so that rows come to a function that
//! sees all of them in the same order. Everything else is a plain model.

use std::collections::{BTreeMap, BTreeSet};

use super::datum::{Datum, Key};
use super::guest::{Guest, Row};
use super::open_windows::Open;
use super::time::{FIRST, LAST};
use crate::bindings::dataflow::{Window, WindowAssigner};
use crate::chain::Work;

/// A piece of windows: its start in time, or the session's first and last row.
pub(crate) type Piece = (i64, i64);

/// Accumulators by piece and key.
#[derive(Debug)]
pub(crate) struct Windows {
    window: Window,
    pub(crate) watermark: i64,
    pub(crate) pieces: BTreeMap<(Key, Piece), u32>,
    /// Windows that have fired are not kept: this follows from the watermark. Of sessions those that have not.
    pub(crate) unfired: BTreeSet<(Key, Piece)>,
    free: Vec<u32>,
    slots: u32,
    pub(crate) dropped: u64,
}

/// A result that is due: start and end, key, slot.
type Due = (i64, i64, Key, u32);

impl Windows {
    pub(crate) fn new(window: &Window) -> Self {
        Windows {
            window: window.clone(),
            watermark: FIRST,
            pieces: BTreeMap::new(),
            unfired: BTreeSet::new(),
            free: Vec::new(),
            slots: 0,
            dropped: 0,
        }
    }

    fn allocate(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    fn has_ended(&self, last: i64) -> bool {
        last <= self.watermark
    }

    fn has_expired(&self, last: i64) -> bool {
        last.saturating_add(self.lateness()) <= self.watermark
    }

    fn lateness(&self) -> i64 {
        i64::try_from(self.window.allowed_lateness_ms).unwrap_or(i64::MAX)
    }

    fn gap(&self) -> Option<i64> {
        match &self.window.assigner {
            WindowAssigner::Session(session) => Some(session.gap_ms as i64),
            WindowAssigner::Tumbling(_) | WindowAssigner::Sliding(_) => None,
        }
    }

    /// Rows of an input with their keys; late ones come back if there is a port for them.
    pub(crate) fn rows(&mut self, guest: &mut Guest<'_>, input: u32, keys: &[Key], rows: &[Row]) {
        let (kept, late): (Vec<usize>, Vec<usize>) = match self.gap() {
            Some(gap) => self.add_to_sessions(guest, gap, input, keys, rows),
            None => self.add_to_slices(guest, input, keys, rows),
        };
        let port = self.window.late_ports.get(input as usize).copied().flatten();
        self.dropped += match port {
            Some(_) => (rows.len() - kept.len() - late.len()) as u64,
            None => (rows.len() - kept.len()) as u64,
        };
        if let Some(port) = port.filter(|_| !late.is_empty()) {
            let late = late.iter().map(|row| rows[*row].clone()).collect();
            guest.outputs.push((port, late));
        }
    }

    /// The watermark has come to this: what ends fires, in order of its end, and what takes no more rows is dropped.
    pub(crate) fn fire(&mut self, guest: &mut Guest<'_>, watermark: i64) {
        let before = self.watermark;
        self.watermark = before.max(watermark);
        match self.gap() {
            Some(gap) => self.fire_sessions(guest, gap),
            None => self.fire_slices(guest, before),
        }
    }

    fn emit(&mut self, guest: &mut Guest<'_>, due: &[Due], then_drop: bool) {
        if due.is_empty() {
            return;
        }
        let slots: Vec<u32> = due.iter().map(|due| due.3).collect();
        let keys: Vec<Key> = due.iter().map(|due| due.2.clone()).collect();
        let (starts, ends): (Vec<i64>, Vec<i64>) = due.iter().map(|due| (due.0, due.1)).unzip();
        let keys = guest.info.keys(&keys);
        let work = Work::Windows {
            slots: &slots,
            starts: &starts,
            ends: &ends,
            keys: &keys,
            then_drop,
        };
        guest.call(&work, |_| String::new());
        if then_drop {
            self.free.extend(slots);
        }
    }

    fn forget(&mut self, guest: &mut Guest<'_>, pieces: &[(Key, Piece)]) {
        let slots: Vec<u32> = pieces.iter().filter_map(|piece| self.pieces.remove(piece)).collect();
        guest.drop_state(&slots);
        self.free.extend(slots);
    }

    /// An accumulator of a snapshot.
    pub(crate) fn import(&mut self, guest: &mut Guest<'_>, piece: (Key, Piece), value: Datum) {
        let slot = self.allocate();
        guest.import(0, &[slot], &[value]);
        self.pieces.insert(piece, slot);
    }
}

/// A window of a key: start and end, whether it is still to fire, and the slots that it consists of.
type Found = (i64, i64, bool, Vec<u32>);

/// For tests to see.
impl Windows {
    /// Windows of a key that take rows, in order.
    pub(crate) fn open(&mut self, guest: &mut Guest<'_>, key: &Key) -> Vec<Open> {
        let found = self.found(key).into_iter();
        let open = |(start, end, is_to_fire, slots): Found| Open {
            start,
            end,
            contents: self.contents(guest, &slots),
            fires_at: is_to_fire.then_some(end.saturating_sub(1)),
        };
        found.map(open).collect()
    }

    /// When windows of a key fire, and when they are given up; in order.
    pub(crate) fn timers(&self, key: &Key) -> BTreeSet<i64> {
        let timers = self.found(key).into_iter().flat_map(|(_, end, is_to_fire, _)| {
            let last = end.saturating_sub(1);
            [is_to_fire.then_some(last), Some(last.saturating_add(self.lateness()))]
        });
        timers.flatten().collect()
    }

    fn found(&self, key: &Key) -> Vec<Found> {
        let pieces = self.pieces_of(key);
        if let Some(gap) = self.gap() {
            let found = |piece: Piece| {
                let session = (key.clone(), piece);
                let is_to_fire = self.unfired.contains(&session);
                (
                    piece.0,
                    piece.1.saturating_add(gap),
                    is_to_fire,
                    vec![self.pieces[&session]],
                )
            };
            return pieces.map(found).collect();
        }
        let grid = Grid::new(&self.window.assigner);
        let mut windows = BTreeMap::<i64, Vec<u32>>::new();
        for piece in pieces {
            for start in grid.windows_of(piece.0) {
                windows
                    .entry(start)
                    .or_default()
                    .push(self.pieces[&(key.clone(), piece)]);
            }
        }
        let found = windows
            .into_iter()
            .map(|(start, slots)| (start, start + grid.size, slots));
        let open = found.filter(|(_, end, _)| !self.has_expired(end - 1));
        open.map(|(start, end, slots)| (start, end, !self.has_ended(end - 1), slots))
            .collect()
    }

    /// What slots hold together.
    fn contents(&mut self, guest: &mut Guest<'_>, slots: &[u32]) -> Datum {
        let target = self.allocate();
        slots.iter().for_each(|source| guest.merge(&[target], &[*source]));
        let contents = guest.export(0, &[target]).pop();
        guest.drop_state(&[target]);
        self.free.push(target);
        contents.unwrap_or(Datum::Null)
    }
}

/// Windows of equal length at equal distances: size, slide, offset, and the length of their slices.
#[derive(Debug, Clone, Copy)]
struct Grid {
    size: i64,
    slide: i64,
    offset: i64,
    slice: i64,
}

impl Grid {
    fn new(assigner: &WindowAssigner) -> Grid {
        let (size, slide, offset) = match assigner {
            WindowAssigner::Tumbling(window) => (window.size_ms, window.size_ms, window.offset_ms),
            WindowAssigner::Sliding(window) => (window.size_ms, window.slide_ms, window.offset_ms),
            WindowAssigner::Session(_) => unreachable!("sessions have no grid"),
        };
        let (mut slice, mut rest) = (size as i64, slide as i64);
        while rest != 0 {
            (slice, rest) = (rest, slice % rest);
        }
        Grid {
            size: size as i64,
            slide: slide as i64,
            offset,
            slice,
        }
    }

    fn slice_of(&self, time: i64) -> i64 {
        (time - self.offset).div_euclid(self.slice) * self.slice + self.offset
    }

    /// Starts of the windows that a slice is in.
    fn windows_of(&self, slice: i64) -> impl Iterator<Item = i64> + use<> {
        let (size, slide) = (self.size, self.slide);
        let last = (slice - self.offset).div_euclid(slide) * slide + self.offset;
        let mut starts: Vec<i64> = (0..)
            .map(|back| last - back * slide)
            .take_while(|start| start + size > slice)
            .collect();
        starts.reverse();
        starts.into_iter()
    }
}

impl Windows {
    fn add_to_slices(
        &mut self,
        guest: &mut Guest<'_>,
        input: u32,
        keys: &[Key],
        rows: &[Row],
    ) -> (Vec<usize>, Vec<usize>) {
        let grid = Grid::new(&self.window.assigner);
        let (mut kept, mut late, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        let mut touched = BTreeMap::<i64, BTreeSet<Key>>::new();
        for (row, key) in keys.iter().enumerate() {
            let time = rows[row].time;
            let slice = grid.slice_of(time);
            let mut windows = grid.windows_of(slice).peekable();
            let has_none = windows.peek().is_none();
            if (has_none && self.has_expired(time))
                || (!has_none && windows.all(|start| self.has_expired(start + grid.size - 1)))
            {
                late.push(row);
                continue;
            }
            if has_none {
                continue;
            }
            let piece = (key.clone(), (slice, slice));
            let known = self.pieces.get(&piece).copied();
            let slot = known.unwrap_or_else(|| self.allocate());
            self.pieces.insert(piece, slot);
            kept.push(row);
            slots.push(slot);
            let fired = grid.windows_of(slice).map(|start| start + grid.size - 1);
            for last in fired.filter(|last| self.has_ended(*last) && !self.has_expired(*last)) {
                touched.entry(last + 1 - grid.size).or_default().insert(key.clone());
            }
        }
        if !kept.is_empty() {
            let rows: Vec<Row> = kept.iter().map(|row| rows[*row].clone()).collect();
            guest.accumulate(input, &slots, &rows);
        }
        for (start, keys) in touched {
            self.fire_window(guest, grid, start, Some(&keys));
        }
        (kept, late)
    }

    fn fire_slices(&mut self, guest: &mut Guest<'_>, before: i64) {
        let grid = Grid::new(&self.window.assigner);
        let slices: BTreeSet<i64> = self.pieces.keys().map(|piece| piece.1.0).collect();
        let windows: BTreeSet<i64> = slices.iter().flat_map(|slice| grid.windows_of(*slice)).collect();
        for start in windows {
            let last = start + grid.size - 1;
            if self.has_ended(last) && last > before {
                self.fire_window(guest, grid, start, None);
            }
        }
        let is_over = |slice: i64| {
            let mut windows = grid.windows_of(slice);
            windows.all(|start| self.has_expired(start + grid.size - 1))
        };
        let over: Vec<(Key, Piece)> = self.pieces.keys().filter(|piece| is_over(piece.1.0)).cloned().collect();
        self.forget(guest, &over);
    }

    /// Puts out what a window holds, of some keys or of all.
    fn fire_window(&mut self, guest: &mut Guest<'_>, grid: Grid, start: i64, only: Option<&BTreeSet<Key>>) {
        let end = start + grid.size;
        let mut by_key = BTreeMap::<Key, Vec<u32>>::new();
        let is_inside = |slice: i64| start <= slice && slice < end;
        for ((key, _), slot) in self.pieces.iter().filter(|entry| is_inside(entry.0.1.0)) {
            if only.is_none_or(|only| only.contains(key)) {
                by_key.entry(key.clone()).or_default().push(*slot);
            }
        }
        let (mut whole, mut merged) = (Vec::new(), Vec::new());
        for (key, slots) in by_key {
            if let [slot] = slots[..] {
                whole.push((start, end, key, slot));
                continue;
            }
            let target = self.allocate();
            slots.iter().for_each(|source| guest.merge(&[target], &[*source]));
            merged.push((start, end, key, target));
        }
        self.emit(guest, &whole, false);
        self.emit(guest, &merged, true);
    }
}

impl Windows {
    fn add_to_sessions(
        &mut self,
        guest: &mut Guest<'_>,
        gap: i64,
        input: u32,
        keys: &[Key],
        rows: &[Row],
    ) -> (Vec<usize>, Vec<usize>) {
        let (mut kept, mut late) = (Vec::new(), Vec::new());
        let mut block = SessionBlock::default();
        for (row, key) in keys.iter().enumerate() {
            match self.join(&mut block, gap, key, rows[row].time) {
                true => kept.push(row),
                false => late.push(row),
            }
        }
        for (target, source) in &block.merges {
            guest.merge(&[*target], &[*source]);
            guest.drop_state(&[*source]);
            self.free.push(*source);
        }
        let slot = |row: &usize| self.session_of(&keys[*row], rows[*row].time);
        let slots: Vec<u32> = kept.iter().map(slot).collect();
        if !kept.is_empty() {
            let rows: Vec<Row> = kept.iter().map(|row| rows[*row].clone()).collect();
            guest.accumulate(input, &slots, &rows);
        }
        self.fire_again(guest, gap, block.touched);
        (kept, late)
    }

    /// Gives a row a session, which it may open, or make of two; false: it is late.
    fn join(&mut self, block: &mut SessionBlock, gap: i64, key: &Key, time: i64) -> bool {
        let joins = |piece: &Piece| piece.0.saturating_sub(gap) <= time && time <= piece.1.saturating_add(gap);
        let joined: Vec<Piece> = self.pieces_of(key).filter(joins).collect();
        if joined.is_empty() && self.has_expired(time.saturating_add(gap - 1)) {
            return false;
        }
        let first = joined.first().map_or(time, |piece| piece.0.min(time));
        let last = joined.last().map_or(time, |piece| piece.1.max(time));
        let mut slots = Vec::new();
        for piece in joined {
            let session = (key.clone(), piece);
            slots.extend(self.pieces.remove(&session));
            self.unfired.remove(&session);
            block.touched.remove(&session);
        }
        // The older stays and gets what the newer has: rows stay in the order of time. A session that this block has
        // opened holds nothing yet.
        let (opened, known): (Vec<u32>, Vec<u32>) = slots.into_iter().partition(|slot| block.opened.contains(slot));
        let mut all = known.iter().chain(&opened).copied();
        let slot = all.next().unwrap_or_else(|| {
            let slot = self.allocate();
            block.opened.insert(slot);
            slot
        });
        block.merges.extend(known.iter().skip(1).map(|source| (slot, *source)));
        self.free.extend(opened.iter().filter(|other| **other != slot));
        let session = (key.clone(), (first, last));
        if !self.has_ended(last.saturating_add(gap - 1)) {
            self.unfired.insert(session.clone());
        }
        block.touched.insert(session.clone());
        self.pieces.insert(session, slot);
        true
    }

    /// In the order of time: sessions, or the slices of other windows.
    fn pieces_of(&self, key: &Key) -> impl Iterator<Item = Piece> {
        let of_key = (key.clone(), (FIRST, FIRST))..=(key.clone(), (LAST, LAST));
        self.pieces.range(of_key).map(|((_, piece), _)| *piece)
    }

    fn session_of(&self, key: &Key, time: i64) -> u32 {
        let mut sessions = self.pieces_of(key);
        let piece = sessions.find(|piece| piece.0 <= time && time <= piece.1);
        self.pieces[&(key.clone(), piece.expect("the row was given a session"))]
    }

    /// Sessions that had ended when rows came, and take rows still.
    fn fire_again(&mut self, guest: &mut Guest<'_>, gap: i64, touched: BTreeSet<(Key, Piece)>) {
        let ended = touched
            .into_iter()
            .filter(|(_, piece)| self.has_ended(piece.1.saturating_add(gap - 1)));
        let ended: Vec<(Key, Piece)> = ended.filter(|_| self.lateness() > 0).collect();
        let due = self.due_sessions(&ended, gap);
        self.emit(guest, &due, false);
    }

    fn due_sessions(&self, sessions: &[(Key, Piece)], gap: i64) -> Vec<Due> {
        let due = |(key, piece): &(Key, Piece)| {
            let slot = self.pieces[&(key.clone(), *piece)];
            (piece.0, piece.1.saturating_add(gap), key.clone(), slot)
        };
        let mut due: Vec<Due> = sessions.iter().map(due).collect();
        due.sort_by_key(|due| due.1);
        due
    }

    fn fire_sessions(&mut self, guest: &mut Guest<'_>, gap: i64) {
        let last = |piece: &Piece| piece.1.saturating_add(gap - 1);
        let ended = self.unfired.iter().filter(|(_, piece)| self.has_ended(last(piece)));
        let ended: Vec<(Key, Piece)> = ended.cloned().collect();
        let due = self.due_sessions(&ended, gap);
        ended.iter().for_each(|session| {
            self.unfired.remove(session);
        });
        self.emit(guest, &due, false);
        let over = self.pieces.keys().filter(|(_, piece)| self.has_expired(last(piece)));
        let over: Vec<(Key, Piece)> = over.cloned().collect();
        self.forget(guest, &over);
    }
}

/// What rows of a block do to sessions.
#[derive(Debug, Default)]
struct SessionBlock {
    /// Slots that nothing was added to yet.
    opened: BTreeSet<u32>,
    /// Target and source.
    merges: Vec<(u32, u32)>,
    touched: BTreeSet<(Key, Piece)>,
}
