//! Numbers of rows that wait, in a list for each key: for whoever asks for the rows of a key, as snapshots and lower tiers do.
//!
//! Each row that comes or goes changes its neighbours in the list, wherever these lie in memory: so the lists are kept only when
//! they are of use, see [`Waiting`](super::waiting::Waiting).

use millrace_core::function::Slot;

/// No row.
const NONE: u32 = u32::MAX;

/// The rows of a key that came before and behind another.
#[derive(Debug, Clone, Copy)]
struct Neighbours {
    earlier: u32,
    later: u32,
}

/// A list of rows for each key, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct ByKey {
    /// By slot: the row that was added last.
    last: Vec<u32>,
    /// By number of row.
    neighbours: Vec<Neighbours>,
}

impl ByKey {
    /// Makes room for these slots, and for rows of these numbers.
    pub(super) fn reserve(&mut self, slots: usize, rows: usize) {
        if self.last.len() < slots {
            self.last.resize(slots.next_power_of_two(), NONE);
        }
        if self.neighbours.len() < rows {
            let none = Neighbours {
                earlier: NONE,
                later: NONE,
            };
            self.neighbours.resize(rows.next_power_of_two(), none);
        }
    }

    /// Adds a row for which there is room.
    pub(super) fn add(&mut self, slot: Slot, number: u32) {
        let earlier = std::mem::replace(&mut self.last[slot as usize], number);
        self.neighbours[number as usize] = Neighbours { earlier, later: NONE };
        if earlier != NONE {
            self.neighbours[earlier as usize].later = number;
        }
    }

    /// Takes a row out that is in the list of this key.
    pub(super) fn remove(&mut self, slot: Slot, number: u32) {
        let Neighbours { earlier, later } = self.neighbours[number as usize];
        match later {
            NONE => self.last[slot as usize] = earlier,
            later => self.neighbours[later as usize].earlier = earlier,
        }
        if earlier != NONE {
            self.neighbours[earlier as usize].later = later;
        }
    }

    /// Empties the list of a key.
    pub(super) fn clear(&mut self, slot: Slot) {
        self.last[slot as usize] = NONE;
    }

    /// The rows of a key, the last one first.
    pub(super) fn of_key(&self, slot: Slot) -> impl Iterator<Item = u32> {
        let mut next = self.last[slot as usize];
        std::iter::from_fn(move || {
            let number = next;
            next = self.neighbours.get(number as usize)?.earlier;
            Some(number)
        })
    }

    /// Looks at the rows that came last of some keys, one after the other without doing anything: memory answers many such
    /// questions at once.
    pub(super) fn warm_keys(&self, slots: &[Slot]) {
        let last = slots.iter().filter_map(|&slot| self.last.get(slot as usize));
        self.warm(last.copied());
    }

    /// The same for the neighbours of rows.
    pub(super) fn warm_neighbours(&self, numbers: &[u32]) {
        let neighbours = numbers
            .iter()
            .filter_map(|&number| self.neighbours.get(number as usize));
        self.warm(neighbours.flat_map(|of_row| [of_row.earlier, of_row.later]));
    }

    fn warm(&self, numbers: impl Iterator<Item = u32>) {
        let found = numbers.filter_map(|number| self.neighbours.get(number as usize));
        let later = found.map(|of_row| of_row.later);
        std::hint::black_box(later.fold(0, u32::wrapping_add));
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.last.capacity() * size_of::<u32>() + self.neighbours.capacity() * size_of::<Neighbours>()
    }
}
