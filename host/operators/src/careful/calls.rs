//! The functions of a chain, one entry a call; see the module above.

use arrow_array::{Array, ArrayRef};
use millrace_core::Result;
use millrace_core::block::{Block, Millis};
use millrace_core::function::{
    CallFault, Effects, KeyedFunction, Slot, StateFunction, TimerKind, TriedFunction, WindowFunction, touched,
};

use super::{Careful, Entry, Quarantined, RowCalls};

/// Implements the traits of `F`.
pub struct CarefulCalls<'a, F> {
    pub(super) careful: &'a mut Careful,
    pub(super) function: &'a mut F,
}

/// The effects of calls of one entry, put together to those of one call.
struct Gathered {
    effects: Effects,
    entries: usize,
    states: usize,
}

impl Gathered {
    fn new(entries: usize, states: usize) -> Self {
        Gathered {
            effects: Effects::default(),
            entries,
            states,
        }
    }

    fn add(&mut self, entry: usize, effects: Effects) {
        let timers = effects.timers.into_iter();
        self.effects.timers.extend(timers.map(|mut timer| {
            timer.entry = entry as u32;
            timer
        }));
        if effects.touched.is_empty() {
            return;
        }
        self.effects.touched.resize(self.states * self.entries, 0);
        for (state, flags) in effects.touched.into_iter().enumerate() {
            self.effects.touched[state * self.entries + entry] = flags;
        }
    }
}

impl<'a, F> CarefulCalls<'a, F> {
    pub(super) fn new(careful: &'a mut Careful, function: &'a mut F) -> Self {
        CarefulCalls { careful, function }
    }
}

impl<F: TriedFunction> CarefulCalls<'_, F> {
    /// Makes a call, or some that belong together, for one entry. A fault means that nothing of it was done.
    pub(super) fn attempt<T>(&mut self, call: impl FnOnce(&mut F) -> Result<T>) -> Result<Result<T, CallFault>> {
        self.function.mark();
        let error = match call(self.function) {
            Ok(done) => return Ok(Ok(done)),
            Err(error) => error,
        };
        let Some(fault) = self.function.take_fault() else {
            return Err(error);
        };
        self.function.undo();
        self.careful.instances.replace()?;
        Ok(Err(fault))
    }

    pub(super) fn set_aside(&mut self, entry: Entry, fault: CallFault) {
        self.careful.quarantined.push(Quarantined { entry, fault });
    }

    /// Copies what these slots, each named once, hold in a state now.
    fn copy(&mut self, state: u32, slots: &[Slot]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let values = self.function.export_state(state, slots)?;
        self.careful.shadow.borrow_mut().put(state, slots, values)
    }

    /// The same for slots that may be named twice.
    fn copy_all(&mut self, state: u32, mut slots: Vec<Slot>) -> Result<()> {
        slots.sort_unstable();
        slots.dedup();
        self.copy(state, &slots)
    }

    /// Copies what a call over these slots has changed.
    fn copy_changed(&mut self, slots: &[Slot], effects: &Effects) -> Result<()> {
        let states = self.careful.shadow.borrow().state_count();
        for state in 0..states {
            if self.careful.always_writes {
                self.copy_all(state as u32, slots.to_vec())?;
                continue;
            }
            let flags = effects.touched.chunks(slots.len()).nth(state).unwrap_or_default();
            let changed = flags.iter().zip(slots);
            let changed = changed.filter(|(flags, _)| *flags & (touched::WRITTEN | touched::CLEARED) != 0);
            self.copy_all(state as u32, changed.map(|(_, &slot)| slot).collect())?;
        }
        Ok(())
    }

    /// Makes a call for each row; rows that trap are set aside.
    pub fn each_row(&mut self, block: &Block, mut call: impl FnMut(&mut F, &Block) -> Result<()>) -> Result<()> {
        for row in 0..block.row_count() {
            let one = block.slice(row, 1);
            if let Err(fault) = self.attempt(|function| call(function, &one))? {
                self.set_aside(Entry::Row(one), fault);
            }
        }
        Ok(())
    }

    /// Makes the last call of a function, which may touch these slots. No entry is to blame if it traps.
    pub fn close(&mut self, slots: &[Slot], call: impl FnOnce(&mut F) -> Result<Effects>) -> Result<Effects> {
        let effects = call(self.function)?;
        self.copy_changed(slots, &effects)?;
        Ok(effects)
    }

    /// Makes a call for each entry. Those that trap are set aside as what `entry` says.
    fn each_entry(
        &mut self,
        slots: &[Slot],
        mut call: impl FnMut(&mut F, usize) -> Result<Effects>,
        entry: impl Fn(usize) -> Entry,
    ) -> Result<Effects> {
        let states = self.careful.shadow.borrow().state_count();
        let mut all = Gathered::new(slots.len(), states);
        let collections = self.careful.collections.clone();
        for (index, slot) in slots.iter().enumerate() {
            if let Some(collections) = &collections {
                collections.borrow_mut().narrow(Some(index as u32));
            }
            match self.attempt(|function| call(function, index))? {
                Ok(effects) => {
                    self.copy_changed(std::slice::from_ref(slot), &effects)?;
                    // The next entry may be of the same key.
                    if let Some(collections) = &collections {
                        collections.borrow_mut().apply(&effects.collections)?;
                    }
                    all.add(index, effects);
                }
                Err(fault) => {
                    self.set_aside(entry(index), fault);
                    all.effects.quarantined.push(index as u32);
                }
            }
        }
        Ok(all.effects)
    }
}

impl<F: TriedFunction> StateFunction for CarefulCalls<'_, F> {
    fn export_state(&mut self, state: u32, slots: &[Slot]) -> Result<ArrayRef> {
        self.function.export_state(state, slots)
    }

    fn import_state(&mut self, state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        self.function.import_state(state, slots, values)?;
        self.careful.shadow.borrow_mut().put(state, slots, values.clone())
    }

    fn drop_state(&mut self, slots: &[Slot]) -> Result<()> {
        self.function.drop_state(slots)?;
        self.careful.shadow.borrow_mut().forget(slots);
        Ok(())
    }
}

impl<F: TriedFunction + KeyedFunction> KeyedFunction for CarefulCalls<'_, F> {
    fn process(&mut self, input: u32, slots: &[Slot], rows: &Block) -> Result<Effects> {
        if !self.careful.by_entry {
            let effects = self.function.process(input, slots, rows)?;
            self.copy_changed(slots, &effects)?;
            return Ok(effects);
        }
        let row = |index| rows.slice(index, 1);
        self.each_entry(
            slots,
            |function, index| function.process(input, &slots[index..=index], &row(index)),
            |index| Entry::Row(row(index)),
        )
    }

    fn timers(&mut self, kind: TimerKind, slots: &[Slot], times: &[Millis], keys: &[ArrayRef]) -> Result<Effects> {
        if !self.careful.by_entry {
            let effects = self.function.timers(kind, slots, times, keys)?;
            self.copy_changed(slots, &effects)?;
            return Ok(effects);
        }
        self.each_entry(
            slots,
            |function, index| {
                let key = one_row(keys, index);
                function.timers(kind, &slots[index..=index], &times[index..=index], &key)
            },
            |index| Entry::Timer {
                kind,
                time: times[index],
                keys: one_row(keys, index),
            },
        )
    }
}

impl<F: TriedFunction + WindowFunction> CarefulCalls<'_, F> {
    /// Makes the calls that a row means; false: it was set aside, and nothing was done.
    pub(crate) fn row(&mut self, calls: RowCalls, row: &Block) -> Result<bool> {
        let RowCalls { merge, slot } = calls;
        let done = self.attempt(|function| {
            if let Some((target, source)) = merge {
                function.merge(&[target], &[source])?;
                function.drop_state(&[source])?;
            }
            function.accumulate(&[slot], row)
        })?;
        if let Err(fault) = done {
            self.set_aside(Entry::Row(row.clone()), fault);
            return Ok(false);
        }
        if let Some((_, source)) = merge {
            self.careful.shadow.borrow_mut().forget(&[source]);
        }
        self.copy(0, &[slot])?;
        Ok(true)
    }

    /// Whether rows go through [`row`](Self::row).
    pub(crate) fn is_by_entry(&self) -> bool {
        self.careful.by_entry
    }
}

impl<F: TriedFunction + WindowFunction> WindowFunction for CarefulCalls<'_, F> {
    fn accumulate(&mut self, slots: &[Slot], rows: &Block) -> Result<()> {
        self.function.accumulate(slots, rows)?;
        self.copy_all(0, slots.to_vec())
    }

    /// An accumulator that cannot be put together makes its window one that cannot be put out.
    fn merge(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<()> {
        if !self.careful.by_entry {
            self.function.merge(targets, sources)?;
            return self.copy_all(0, targets.to_vec());
        }
        for (&target, &source) in targets.iter().zip(sources) {
            if self.careful.poisoned.contains_key(&target) {
                continue;
            }
            match self.attempt(|function| function.merge(&[target], &[source]))? {
                Ok(()) => self.copy(0, &[target])?,
                Err(fault) => {
                    self.careful.poisoned.insert(target, fault);
                }
            }
        }
        Ok(())
    }

    fn emit(
        &mut self,
        slots: &[Slot],
        starts: &[Millis],
        ends: &[Millis],
        keys: &[ArrayRef],
        then_drop: bool,
    ) -> Result<()> {
        if !self.careful.by_entry {
            self.function.emit(slots, starts, ends, keys, then_drop)?;
            if then_drop {
                self.careful.shadow.borrow_mut().forget(slots);
            }
            return Ok(());
        }
        for (index, slot) in slots.iter().enumerate() {
            let (slot, start, end) = (std::slice::from_ref(slot), &starts[index..=index], &ends[index..=index]);
            let keys = one_row(keys, index);
            let done = match self.careful.poisoned.remove(&slot[0]) {
                Some(fault) => Err(fault),
                None => self.attempt(|function| function.emit(slot, start, end, &keys, then_drop))?,
            };
            let failed = done.is_err();
            if let Err(fault) = done {
                let (start, end) = (start[0], end[0]);
                self.set_aside(Entry::Window { start, end, keys }, fault);
            }
            match (then_drop, failed) {
                (true, true) => self.drop_state(slot)?,
                (true, false) => self.careful.shadow.borrow_mut().forget(slot),
                (false, _) => {}
            }
        }
        Ok(())
    }
}

fn one_row(columns: &[ArrayRef], row: usize) -> Vec<ArrayRef> {
    columns.iter().map(|column| column.slice(row, 1)).collect()
}
