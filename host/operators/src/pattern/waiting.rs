//! Rows that the watermark has not passed, of all keys: in buckets of time, from which a watermark takes what is due, and
//! in a list for each key, from which a snapshot takes what is the key's.
//!
//! Both hold numbers of rows. A row that is [forgotten](Waiting::forget), with its key, leaves its number in its bucket, where
//! it is met when its time comes; before, if more than half of all numbers are of that kind.
//!
//! Rows of equal time are in the order in which they came, or in that of the bytes that the guest has given for each: a bucket is put
//! in that order when its time has come.

use millrace_core::block::Millis;
use millrace_core::function::Slot;
use millrace_pattern::{Conditions, Place};

use crate::time_buckets::TimeBuckets;

/// No row.
const NONE: u32 = u32::MAX;

/// Numbers of forgotten rows up to this count are not worth looking for.
const STALE_MIN: usize = 4096;

/// A row that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) time: Millis,
    /// Conditions that hold of it, or may, if they look at other rows.
    pub(super) may: Conditions,
    pub(super) place: Place,
    /// Of its key; [`NONE`]: it was forgotten.
    pub(super) slot: Slot,
    /// The row of the key that came before it, and the one that came behind.
    earlier: u32,
    later: u32,
}

/// All rows that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    rows: Vec<Row>,
    free: Vec<u32>,
    /// By slot: the row that came last.
    last: Vec<u32>,
    buckets: TimeBuckets,
    /// A bucket that is being gone through, taken out of `buckets`; done up to `current_at`.
    current: Vec<u32>,
    current_at: usize,
    current_time: Millis,
    count: usize,
    /// What each row is ordered by among those of equal time, if the pattern says so.
    orders: Option<Vec<Box<[u8]>>>,
    order_bytes: usize,
    /// Taken by [`take_due`](Self::take_due), and to be matched next. They are in the lists of their keys still.
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
            last: Vec::new(),
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
        if self.last.len() <= slot as usize {
            self.last.resize((slot as usize + 1).next_power_of_two(), NONE);
        }
        let earlier = self.last[slot as usize];
        let row = Row {
            time,
            may,
            place,
            slot,
            earlier,
            later: NONE,
        };
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
        self.last[slot as usize] = number;
        if earlier != NONE {
            self.rows[earlier as usize].later = number;
        }
        self.count += 1;
        self.buckets.push(time, number);
        number
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

    /// Looks at the rows that came last of some keys, one after the other without doing anything: memory answers many such
    /// questions at once.
    pub(super) fn warm_keys(&self, slots: &[Slot]) {
        let last = slots.iter().map(|&slot| self.last_of(slot));
        let last = last.filter(|&last| last != NONE).map(|last| self.row(last).slot);
        std::hint::black_box(last.fold(0, u32::wrapping_add));
    }

    /// The same for the neighbours of rows that are due.
    pub(super) fn warm_due(&self, due: &[u32]) {
        let neighbours = due.iter().flat_map(|&number| {
            let row = self.row(number);
            [row.earlier, row.later]
        });
        let slots = neighbours
            .filter(|&number| number != NONE)
            .map(|number| self.row(number).slot);
        std::hint::black_box(slots.fold(0, u32::wrapping_add));
    }

    pub(super) fn row(&self, number: u32) -> &Row {
        &self.rows[number as usize]
    }

    /// Whether this row is there and lies at this place.
    pub(super) fn is_at(&self, number: u32, place: Place) -> bool {
        let row = self.row(number);
        row.slot != NONE && row.place == place
    }

    /// The row lies elsewhere now.
    pub(super) fn move_row(&mut self, number: u32, place: Place) {
        self.rows[number as usize].place = place;
    }

    /// Whether rows of a key wait.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.last_of(slot) != NONE
    }

    fn last_of(&self, slot: Slot) -> u32 {
        self.last.get(slot as usize).copied().unwrap_or(NONE)
    }

    /// The rows of a key, in the order of time, and of arrival where times are equal.
    pub(super) fn of_key(&self, slot: Slot) -> Vec<u32> {
        let mut numbers = Vec::new();
        let mut next = self.last_of(slot);
        while next != NONE {
            numbers.push(next);
            next = self.row(next).earlier;
        }
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
                if self.rows[number as usize].slot == NONE {
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

    /// Takes a row that is due out of the list of its key.
    pub(super) fn remove(&mut self, number: u32) -> Row {
        let row = self.rows[number as usize];
        match row.later {
            NONE => self.last[row.slot as usize] = row.earlier,
            later => self.rows[later as usize].earlier = row.earlier,
        }
        if row.earlier != NONE {
            self.rows[row.earlier as usize].later = row.later;
        }
        self.rows[number as usize].slot = NONE;
        self.free.push(number);
        self.count -= 1;
        row
    }

    /// Takes a row that is not due out of the list of its key. Its number stays in its bucket.
    pub(super) fn give_up(&mut self, number: u32) {
        self.remove(number);
        self.free.pop();
    }

    /// Forgets the rows of a key: where they lay.
    pub(super) fn forget(&mut self, slot: Slot) -> Vec<Place> {
        let mut places = Vec::new();
        let mut next = self.last_of(slot);
        if next == NONE {
            return places;
        }
        while next != NONE {
            let row = &mut self.rows[next as usize];
            row.slot = NONE;
            places.push(row.place);
            next = row.earlier;
        }
        self.last[slot as usize] = NONE;
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
                    NONE => free.push(number),
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
        let numbers = self.free.capacity() + self.last.capacity() + self.current.capacity() + self.due.capacity();
        // Of a bucket at most half is empty.
        let numbers = numbers + 2 * self.buckets.entry_count();
        let orders = self.orders.as_ref().map_or(0, Vec::capacity) * size_of::<Box<[u8]>>() + self.order_bytes;
        self.rows.capacity() * size_of::<Row>() + numbers * size_of::<u32>() + orders
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
            for round in 0..300 {
                for row in 0..random.below(20) as u32 {
                    let (slot, row) = (random.below(9) as Slot, round * 100 + row);
                    let time = watermark + 1 + random.below(50) as Millis;
                    waiting.add(slot, time, 0, place(row));
                    let rows = model.entry(slot).or_default();
                    let at = rows.partition_point(|other| other.0 <= time);
                    rows.insert(at, (time, row));
                }
                for _ in 0..random.below(4) {
                    let slot = random.below(9) as Slot;
                    let mut places = waiting.forget(slot);
                    let mut rows = model.remove(&slot).unwrap_or_default();
                    places.sort_unstable_by_key(|place| place.row);
                    rows.sort_unstable_by_key(|row| row.1);
                    assert!(places.iter().map(|place| place.row).eq(rows.iter().map(|row| row.1)));
                }
                for slot in 0..9 {
                    let rows = waiting.of_key(slot).into_iter().map(|number| {
                        let row = waiting.row(number);
                        (row.time, row.place.row)
                    });
                    let expected = model.get(&slot).cloned().unwrap_or_default();
                    assert_eq!(rows.collect::<Vec<_>>(), expected, "seed {seed}");
                    assert_eq!(waiting.has(slot), !expected.is_empty());
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
