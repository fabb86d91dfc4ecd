//! What has begun of each key, by its slot, in pages; and when keys have to be looked at, for their time to be over.
//!
//! Nobody sees when partial matches go whose time is over, unless they are put out, or complete, or hold back others. So where
//! none of this can be, keys are looked at a little later, many at the same time.

use millrace_core::block::Millis;
use millrace_core::function::Slot;
use millrace_pattern::{Key, Matcher, Program};

use crate::time_buckets::TimeBuckets;

const PAGE: usize = 1024;

/// Into so many parts the time of a match is divided where it does not matter.
const GRAINS: Millis = 32;

/// Looks that are not needed any more are not worth looking for up to this count.
const STALE_MIN: usize = 4096;

/// Keys that are looked at together before the first of them is asked for its time.
const WARMED_KEYS: usize = 128;

/// All keys of an operator.
#[derive(Debug)]
pub(super) struct Keys {
    pages: Vec<Vec<Key>>,
    /// Slots, by when they are looked at. Of each key the earliest counts, which it names.
    looks: TimeBuckets,
    /// Slots of the bucket that is being gone through.
    current: Vec<Slot>,
    current_time: Millis,
    /// Keys that name a time.
    looked_at: usize,
    /// Keys are looked at when a multiple of so many ms has come.
    grain_ms: Millis,
}

impl Keys {
    pub(super) fn new(program: &Program) -> Self {
        let times = program.within_ms.into_iter().chain(program.within_gap_ms);
        let within = times.min().unwrap_or(1);
        let grain_ms = match program.times_out_unseen() {
            true => (within / GRAINS).max(1),
            false => 1,
        };
        Keys {
            grain_ms,
            pages: Vec::new(),
            looks: TimeBuckets::new(),
            current: Vec::new(),
            current_time: Millis::MIN,
            looked_at: 0,
        }
    }

    /// Makes room for a slot.
    pub(super) fn at(&mut self, slot: Slot) -> &mut Key {
        let (page, place) = (slot as usize / PAGE, slot as usize % PAGE);
        while self.pages.len() <= page {
            let mut page = Vec::with_capacity(PAGE);
            page.resize_with(PAGE, Key::default);
            self.pages.push(page);
        }
        &mut self.pages[page][place]
    }

    /// What there is of a slot, if it was ever asked for.
    pub(super) fn get(&self, slot: Slot) -> Option<&Key> {
        self.pages.get(slot as usize / PAGE)?.get(slot as usize % PAGE)
    }

    /// Takes a key out.
    pub(super) fn take(&mut self, slot: Slot) -> Key {
        let key = std::mem::take(self.at(slot));
        self.looked_at -= usize::from(key.looked_at.is_some());
        key
    }

    /// Puts a key in place of one that was [taken](Self::take).
    pub(super) fn put(&mut self, slot: Slot, key: Key, matcher: &Matcher) {
        let place = self.at(slot);
        *place = key;
        place.looked_at = None;
        self.watch(slot, matcher);
    }

    /// Has a key looked at when its oldest partial match runs out of time, if that is not sure to happen.
    #[inline]
    pub(super) fn watch(&mut self, slot: Slot, matcher: &Matcher) {
        let key = self.at(slot);
        // Of what begins later no time is over earlier.
        if key.looked_at.is_some() {
            return;
        }
        let Some(deadline) = matcher.deadline(key) else {
            return;
        };
        let time = self.look_time(deadline);
        self.at(slot).looked_at = Some(time);
        self.looked_at += 1;
        self.looks.push(time, slot);
        if self.looks.entry_count() > STALE_MIN + 2 * self.looked_at {
            self.drop_stale();
        }
    }

    fn look_time(&self, deadline: Millis) -> Millis {
        let over = deadline.rem_euclid(self.grain_ms);
        match over {
            0 => deadline,
            _ => deadline.saturating_add(self.grain_ms - over),
        }
    }

    fn drop_stale(&mut self) {
        let pages = &self.pages;
        let is_named = |time, slot: Slot| {
            let key = &pages[slot as usize / PAGE][slot as usize % PAGE];
            key.looked_at == Some(time)
        };
        self.looks.retain(is_named);
    }

    /// Takes keys whose time is over at `upto`, up to `limit`.
    pub(super) fn take_due(&mut self, upto: Millis, limit: usize, matcher: &Matcher, slots: &mut Vec<Slot>) {
        while slots.len() < limit {
            if self.current.len().is_multiple_of(WARMED_KEYS) {
                self.warm_next();
            }
            let Some(slot) = self.current.pop() else {
                match self.looks.take_first(upto, &mut self.current) {
                    Some(time) => self.current_time = time,
                    None => return,
                }
                continue;
            };
            let time = self.current_time;
            let key = self.at(slot);
            if key.looked_at != Some(time) {
                continue;
            }
            key.looked_at = None;
            self.looked_at -= 1;
            match matcher.deadline(self.at(slot)) {
                Some(deadline) if deadline <= upto => slots.push(slot),
                _ => self.watch(slot, matcher),
            }
        }
    }

    /// Looks at keys that are asked next, one after the other without doing anything: memory answers many such questions at
    /// once.
    fn warm_next(&self) {
        let next = self.current.iter().rev().take(WARMED_KEYS);
        let keys = next.filter_map(|&slot| self.get(slot));
        let first = keys.map(|key| key.partials.first().map_or(0, |partial| partial.edges));
        std::hint::black_box(first.fold(0, u64::wrapping_add));
    }

    /// When to look at keys next, if at any.
    pub(super) fn next_look(&self) -> Option<Millis> {
        let current = (!self.current.is_empty()).then_some(self.current_time);
        current.or_else(|| self.looks.first().map(|(time, _)| time))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        // Of a bucket at most half is empty.
        let looks = 2 * self.looks.entry_count() + self.current.capacity();
        self.pages.len() * PAGE * size_of::<Key>() + looks * size_of::<Slot>()
    }
}
