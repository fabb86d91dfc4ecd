//! Rows that the watermark has not passed, of all keys: in buckets of time, from which a watermark takes what is due, and
//! in a list for each key, from which a snapshot takes what is the key's. Both hold numbers of rows.
//!
//! The lists are made when somebody asks for the rows of a key. They are kept while somebody does, and while so many rows wait
//! that making them takes a while.
//!
//! A row that is [forgotten](Waiting::forget), with its key, leaves its number in its bucket, where
//! it is met when its time comes; before, if more than half of all numbers are of that kind.
//!
//! Rows of equal time are in the order in which they came, or in that of the bytes that the guest has given for each: a bucket is put
//! in that order when its time has come.

use millrace_core::block::Millis;
use millrace_core::function::Slot;
use millrace_pattern::{Conditions, Place};

use super::by_key::ByKey;
use crate::time_buckets::TimeBuckets;

/// The key of a row that was forgotten.
const NO_SLOT: Slot = Slot::MAX;

/// Lists of this many rows are made in a few milliseconds, in which no row is handled. If more wait, they have been made.
const LISTED_ROWS: usize = 262_144;

/// Numbers of forgotten rows up to this count are not worth looking for.
const STALE_MIN: usize = 4096;

/// A row that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) time: Millis,
    /// Conditions that hold of it, or may, if they look at other rows.
    pub(super) may: Conditions,
    pub(super) place: Place,
    /// Of its key; [`NO_SLOT`]: it was forgotten.
    pub(super) slot: Slot,
}

/// All rows that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    rows: Vec<Row>,
    free: Vec<u32>,
    /// By slot: how many rows of the key wait.
    counts: Vec<u32>,
    lists: ByKey,
    /// Whether every row that waits is in its list. Otherwise all lists are empty.
    listed: bool,
    /// Rows that have come since somebody asked for the lists.
    unasked: usize,
    /// [`LISTED_ROWS`].
    listed_rows: usize,
    buckets: TimeBuckets,
    /// A bucket that is being gone through, taken out of `buckets`; done up to `current_at`.
    current: Vec<u32>,
    current_at: usize,
    current_time: Millis,
    count: usize,
    /// What each row is ordered by among those of equal time, if the pattern says so.
    orders: Option<Vec<Box<[u8]>>>,
    order_bytes: usize,
    /// Taken by [`take_due`](Self::take_due), and to be matched next. They wait still.
    pub(super) due: Vec<u32>,
}

impl Waiting {
    /// Empty. `ordered`: rows of equal time have an order of their own.
    pub(super) fn new(ordered: bool) -> Self {
        Waiting {
            orders: ordered.then(Vec::new),
            order_bytes: 0,
            rows: Vec::new(),
            free: Vec::new(),
            counts: Vec::new(),
            lists: ByKey::default(),
            listed: false,
            unasked: 0,
            listed_rows: LISTED_ROWS,
            buckets: TimeBuckets::new(),
            current: Vec::new(),
            current_at: 0,
            current_time: Millis::MIN,
            count: 0,
            due: Vec::new(),
        }
    }

    /// Adds a row; its number.
    pub(super) fn add(&mut self, slot: Slot, time: Millis, may: Conditions, place: Place) -> u32 {
        if self.counts.len() <= slot as usize {
            self.counts.resize((slot as usize + 1).next_power_of_two(), 0);
        }
        let row = Row { time, may, place, slot };
        let number = match self.free.pop() {
            Some(number) => {
                self.rows[number as usize] = row;
                number
            }
            None => {
                self.rows.push(row);
                self.rows.len() as u32 - 1
            }
        };
        self.counts[slot as usize] += 1;
        self.count += 1;
        self.buckets.push(time, number);
        if self.listed {
            self.lists.reserve(self.counts.len(), self.rows.len());
            self.lists.add(slot, number);
            self.unasked += 1;
            if self.count < self.listed_rows && self.unasked > 2 * self.listed_rows {
                self.drop_lists();
            }
        } else if self.count > self.listed_rows {
            self.make_lists();
        }
        number
    }

    /// Puts all rows into their lists, in the order of time, and of arrival where times are equal.
    fn make_lists(&mut self) {
        self.lists.reserve(self.counts.len(), self.rows.len());
        let (rows, lists) = (&self.rows, &mut self.lists);
        let current = &self.current[self.current_at..];
        let waiting = self.due.iter().chain(current).chain(self.buckets.entries());
        for &number in waiting {
            let slot = rows[number as usize].slot;
            if slot != NO_SLOT {
                lists.add(slot, number);
            }
        }
        self.listed = true;
        self.unasked = 0;
    }

    fn drop_lists(&mut self) {
        let current = &self.current[self.current_at..];
        for &number in self.due.iter().chain(current).chain(self.buckets.entries()) {
            let slot = self.rows[number as usize].slot;
            if slot != NO_SLOT {
                self.lists.clear(slot);
            }
        }
        self.listed = false;
    }

    /// Somebody asks for the lists.
    fn ask_lists(&mut self) {
        self.unasked = 0;
        if !self.listed {
            self.make_lists();
        }
    }

    /// Says what a row is ordered by among those of equal time.
    pub(super) fn set_order(&mut self, number: u32, order: Box<[u8]>) {
        let Some(orders) = &mut self.orders else {
            return;
        };
        if orders.len() <= number as usize {
            orders.resize_with(self.rows.len(), Box::default);
        }
        self.order_bytes += order.len();
        let before = std::mem::replace(&mut orders[number as usize], order);
        self.order_bytes -= before.len();
    }

    /// The first time at which a row waits.
    pub(super) fn first_time(&self) -> Option<Millis> {
        let current = (self.current_at < self.current.len()).then_some(self.current_time);
        let first = self.buckets.first().map(|(time, _)| time);
        current.into_iter().chain(first).min()
    }

    /// Looks at what is changed when rows of these keys come.
    pub(super) fn warm_keys(&self, slots: &[Slot]) {
        if self.listed {
            self.lists.warm_keys(slots);
        }
    }

    /// Looks at what is changed when these rows go.
    pub(super) fn warm_due(&self, due: &[u32]) {
        if self.listed {
            self.lists.warm_neighbours(due);
        }
    }

    pub(super) fn row(&self, number: u32) -> &Row {
        &self.rows[number as usize]
    }

    /// The row lies elsewhere now.
    pub(super) fn move_row(&mut self, number: u32, place: Place) {
        self.rows[number as usize].place = place;
    }

    /// Whether rows of a key wait.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.counts.get(slot as usize).is_some_and(|count| *count > 0)
    }

    /// The rows of a key, in the order of time, and of arrival where times are equal.
    pub(super) fn of_key(&mut self, slot: Slot) -> Vec<u32> {
        if !self.has(slot) {
            return Vec::new();
        }
        self.ask_lists();
        let mut numbers = self.lists.of_key(slot).collect::<Vec<_>>();
        numbers.reverse();
        numbers.sort_by_key(|&number| self.row(number).time);
        numbers
    }

    /// Takes rows that are due at `upto` into [`due`](Self::due), up to `limit`, in the order of time.
    pub(super) fn take_due(&mut self, upto: Millis, limit: usize) {
        self.due.clear();
        while self.due.len() < limit && self.next_bucket(upto) {
            let end = self.current.len().min(self.current_at + limit - self.due.len());
            for &number in &self.current[self.current_at..end] {
                if self.rows[number as usize].slot == NO_SLOT {
                    self.free.push(number);
                } else {
                    self.due.push(number);
                }
            }
            self.current_at = end;
        }
    }

    /// Makes the earliest bucket the current one; false: it is not due. One that is not done goes on, unless an earlier one has
    /// appeared since.
    fn next_bucket(&mut self, upto: Millis) -> bool {
        if self.current_at < self.current.len() {
            let first = self.buckets.first().map(|(time, _)| time);
            if first.is_none_or(|first| first >= self.current_time) {
                return self.current_time <= upto;
            }
            self.put_current_back();
        }
        self.current_at = 0;
        match self.buckets.take_first(upto, &mut self.current) {
            Some(time) => self.current_time = time,
            None => return false,
        }
        if let Some(orders) = &self.orders {
            self.current
                .sort_by(|a, b| orders[*a as usize].cmp(&orders[*b as usize]));
        }
        true
    }

    fn put_current_back(&mut self) {
        for &number in &self.current[self.current_at..] {
            self.buckets.push(self.current_time, number);
        }
        self.current.clear();
        self.current_at = 0;
    }

    /// Takes a row that is due out.
    pub(super) fn remove(&mut self, number: u32) -> Row {
        let row = self.rows[number as usize];
        if self.listed {
            self.lists.remove(row.slot, number);
        }
        self.counts[row.slot as usize] -= 1;
        self.rows[number as usize].slot = NO_SLOT;
        self.free.push(number);
        self.count -= 1;
        row
    }

    /// Takes a row out that is not due. Its number stays in its bucket.
    pub(super) fn give_up(&mut self, number: u32) {
        self.remove(number);
        self.free.pop();
    }

    /// Forgets the rows of a key: where they lay.
    pub(super) fn forget(&mut self, slot: Slot) -> Vec<Place> {
        if !self.has(slot) {
            return Vec::new();
        }
        self.ask_lists();
        let mut places = Vec::with_capacity(self.counts[slot as usize] as usize);
        for number in self.lists.of_key(slot) {
            let row = &mut self.rows[number as usize];
            row.slot = NO_SLOT;
            places.push(row.place);
        }
        self.lists.clear(slot);
        self.counts[slot as usize] = 0;
        self.count -= places.len();
        let numbers = self.buckets.entry_count() + self.current.len() - self.current_at;
        let stale = numbers - self.count;
        if stale > STALE_MIN && stale > self.count {
            self.drop_stale();
        }
        places
    }

    fn drop_stale(&mut self) {
        self.put_current_back();
        let (rows, free) = (&self.rows, &mut self.free);
        let mut kept = TimeBuckets::new();
        while let Some(time) = self.buckets.take_first(Millis::MAX, &mut self.current) {
            for number in self.current.drain(..) {
                match rows[number as usize].slot {
                    NO_SLOT => free.push(number),
                    _ => kept.push(time, number),
                }
            }
        }
        self.buckets = kept;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let numbers = self.free.capacity() + self.counts.capacity() + self.current.capacity() + self.due.capacity();
        // Of a bucket at most half is empty.
        let numbers = numbers + 2 * self.buckets.entry_count();
        let orders = self.orders.as_ref().map_or(0, Vec::capacity) * size_of::<Box<[u8]>>() + self.order_bytes;
        self.rows.capacity() * size_of::<Row>() + numbers * size_of::<u32>() + self.lists.memory_bytes() + orders
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::Random;

    fn place(row: u32) -> Place {
        Place { batch: 0, row }
    }

    /// Keys with their rows, in order of time and arrival.
    type Model = BTreeMap<Slot, Vec<(Millis, u32)>>;

    #[test]
    fn rows_come_in_order_and_by_key() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let (mut waiting, mut model, mut watermark) = (Waiting::new(false), Model::new(), 0);
            // Lists come and go with the count of rows, and with who asks for them.
            waiting.listed_rows = [20, 100, LISTED_ROWS][seed as usize % 3];
            for round in 0..300 {
                for row in 0..random.below(20) as u32 {
                    let (slot, row) = (random.below(9) as Slot, round * 100 + row);
                    let time = watermark + 1 + random.below(50) as Millis;
                    waiting.add(slot, time, 0, place(row));
                    let rows = model.entry(slot).or_default();
                    let at = rows.partition_point(|other| other.0 <= time);
                    rows.insert(at, (time, row));
                }
                let asked = round % 60 < 20;
                for _ in 0..random.below(if asked { 4 } else { 1 }) {
                    let slot = random.below(9) as Slot;
                    let mut places = waiting.forget(slot);
                    let mut rows = model.remove(&slot).unwrap_or_default();
                    places.sort_unstable_by_key(|place| place.row);
                    rows.sort_unstable_by_key(|row| row.1);
                    assert!(places.iter().map(|place| place.row).eq(rows.iter().map(|row| row.1)));
                }
                for slot in (0..9).filter(|_| asked) {
                    let rows = waiting.of_key(slot).into_iter().map(|number| {
                        let row = waiting.row(number);
                        (row.time, row.place.row)
                    });
                    let expected = model.get(&slot).cloned().unwrap_or_default();
                    assert_eq!(rows.collect::<Vec<_>>(), expected, "seed {seed}");
                }
                for slot in 0..9 {
                    let rows = model.get(&slot).map_or(0, Vec::len);
                    assert_eq!(waiting.has(slot), rows > 0);
                }
                watermark += random.below(12) as Millis;
                let (mut last, limit) = (Millis::MIN, 1 + random.below(30) as usize);
                loop {
                    waiting.take_due(watermark, limit);
                    assert!(waiting.due.len() <= limit);
                    if waiting.due.is_empty() {
                        break;
                    }
                    for number in waiting.due.clone() {
                        let row = waiting.remove(number);
                        assert!(last <= row.time && row.time <= watermark);
                        last = row.time;
                        let rows = model.get_mut(&row.slot).unwrap();
                        assert_eq!(rows.remove(0), (row.time, row.place.row), "seed {seed}");
                    }
                }
                assert!(model.values().flatten().all(|row| row.0 > watermark));
                assert_eq!(waiting.len(), model.values().map(Vec::len).sum::<usize>());
            }
            assert!(waiting.rows.len() < 3_000, "numbers are used again");
        }
    }

    /// Keys that come and go leave nothing behind, however far away the time of their rows is.
    #[test]
    fn numbers_of_forgotten_rows_are_used_again() {
        let mut waiting = Waiting::new(false);
        for row in 0..100_000 {
            waiting.add(7, Millis::from(row % 10) + 1_000_000, 0, place(row));
            assert_eq!(waiting.forget(7), [place(row)]);
        }
        assert!(waiting.rows.len() < 3 * STALE_MIN, "{}", waiting.rows.len());
    }
}
