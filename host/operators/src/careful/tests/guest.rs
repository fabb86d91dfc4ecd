//! The double of an instance: it does part of a call before it traps, and spoils what it holds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use millrace_core::block::{Block, Millis};
use millrace_core::function::{
    CallFault, Effects, KeyedFunction, Slot, StateFunction, TimerKind, TimerOperation, TriedFunction, WindowFunction,
    touched,
};
use millrace_core::{Error, Result};

use crate::testing::Random;

/// What an instance holds: per slot the rows that it was given, in order.
pub(super) type Values = BTreeMap<Slot, Vec<i64>>;

/// Which calls trap. The plain operator's guest leaves out what the careful one's traps on.
#[derive(Clone, Copy)]
pub(super) struct Poison {
    pub(super) row: i64,
    pub(super) timer: Millis,
    /// Of a window's first ms.
    pub(super) window: Millis,
    /// Merging an accumulator that ends with such a row.
    pub(super) merge: i64,
}

impl Poison {
    fn is(number: i64, every: i64) -> bool {
        every > 0 && number.rem_euclid(every) == every - 1
    }
}

pub(super) struct Guest {
    pub(super) values: Rc<RefCell<Values>>,
    pub(super) poison: Poison,
    /// It meets nothing that traps, and asserts it.
    pub(super) plain: bool,
    pub(super) always_writes: bool,
    pub(super) out: Vec<(Millis, Vec<i64>)>,
    pub(super) mark: usize,
    pub(super) fault: Option<CallFault>,
    pub(super) random: Random,
    /// Windows that the plain guest could not put together.
    pub(super) spoilt: Vec<Slot>,
}

impl Guest {
    pub(super) fn new(poison: Poison, plain: bool, always_writes: bool) -> Self {
        Guest {
            values: Rc::default(),
            poison,
            plain,
            always_writes,
            out: Vec::new(),
            mark: 0,
            fault: None,
            random: Random::new(7),
            spoilt: Vec::new(),
        }
    }

    fn trap<T>(&mut self, what: &str) -> Result<T> {
        assert!(!self.plain, "{what} reached the plain guest");
        let random = &mut self.random;
        self.out.push((0, vec![-1]));
        for values in self.values.borrow_mut().values_mut() {
            if random.below(2) == 0 {
                values.push(random.below(99) as i64);
            }
        }
        self.fault = Some(CallFault {
            operator: Some(1),
            cause: what.into(),
        });
        Err(Error::pipeline("PL0001", what))
    }

    pub(super) fn rows(&self, block: &Block) -> Vec<i64> {
        block.rows.column(1).as_primitive::<Int64Type>().values().to_vec()
    }
}

impl StateFunction for Guest {
    fn export_state(&mut self, _: u32, slots: &[Slot]) -> Result<ArrayRef> {
        let mut lists = ListBuilder::new(Int64Builder::new());
        for slot in slots {
            match self.values.borrow().get(slot) {
                Some(values) => {
                    lists.values().append_slice(values);
                    lists.append(true);
                }
                None => lists.append(false),
            }
        }
        Ok(Arc::new(lists.finish()))
    }

    fn import_state(&mut self, _: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        let mut held = self.values.borrow_mut();
        for (&slot, rows) in slots.iter().zip(values.as_list::<i32>().iter()) {
            match rows {
                Some(rows) => held.insert(slot, rows.as_primitive::<Int64Type>().values().to_vec()),
                None => held.remove(&slot),
            };
        }
        Ok(())
    }

    fn drop_state(&mut self, slots: &[Slot]) -> Result<()> {
        self.values.borrow_mut().retain(|slot, _| !slots.contains(slot));
        Ok(())
    }
}

impl TriedFunction for Guest {
    fn mark(&mut self) {
        self.mark = self.out.len();
    }

    fn undo(&mut self) {
        self.out.truncate(self.mark);
    }

    fn take_fault(&mut self) -> Option<CallFault> {
        self.fault.take()
    }
}

impl KeyedFunction for Guest {
    fn process(&mut self, _: u32, slots: &[Slot], block: &Block) -> Result<Effects> {
        let (rows, count) = (self.rows(block), slots.len());
        let mut effects = Effects::default();
        if !self.always_writes {
            effects.touched = vec![0; count];
        }
        for (entry, (&slot, row)) in slots.iter().zip(rows).enumerate() {
            self.values.borrow_mut().entry(slot).or_default().push(row);
            if Poison::is(row, self.poison.row) {
                return self.trap("a row");
            }
            let held = self.values.borrow()[&slot].clone();
            self.out.push((0, held.clone()));
            if self.always_writes {
                continue;
            }
            effects.touched[entry] = touched::WRITTEN;
            if held.len() > 4 {
                effects.touched[entry] = touched::CLEARED;
                self.values.borrow_mut().remove(&slot);
            }
            effects.timers.push(TimerOperation {
                entry: entry as u32,
                time: row + 20,
                kind: TimerKind::EventTime,
                set: row % 3 > 0,
            });
        }
        Ok(effects)
    }

    fn timers(&mut self, _: TimerKind, slots: &[Slot], times: &[Millis], _: &[ArrayRef]) -> Result<Effects> {
        let mut effects = Effects {
            touched: vec![0; slots.len()],
            ..Effects::default()
        };
        for (entry, (&slot, &time)) in slots.iter().zip(times).enumerate() {
            if Poison::is(time, self.poison.timer) {
                if self.plain {
                    continue;
                }
                self.values.borrow_mut().remove(&slot);
                return self.trap("a timer");
            }
            let held = self.values.borrow().get(&slot).cloned().unwrap_or_default();
            self.out.push((time, held));
            if time % 2 == 0 {
                self.values.borrow_mut().remove(&slot);
                effects.touched[entry] = touched::CLEARED;
            }
        }
        Ok(effects)
    }
}

impl WindowFunction for Guest {
    fn accumulate(&mut self, slots: &[Slot], block: &Block) -> Result<()> {
        for (&slot, row) in slots.iter().zip(self.rows(block)) {
            self.values.borrow_mut().entry(slot).or_default().push(row);
            if Poison::is(row, self.poison.row) {
                return self.trap("a row");
            }
        }
        Ok(())
    }

    fn merge(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<()> {
        for (&target, source) in targets.iter().zip(sources) {
            let from = self.values.borrow()[source].clone();
            if Poison::is(from[from.len() - 1], self.poison.merge) {
                if self.plain {
                    self.spoilt.push(target);
                } else {
                    return self.trap("a merge");
                }
            }
            self.values.borrow_mut().entry(target).or_default().extend(from);
        }
        Ok(())
    }

    fn emit(&mut self, slots: &[Slot], starts: &[Millis], _: &[Millis], _: &[ArrayRef], then_drop: bool) -> Result<()> {
        for (&slot, &start) in slots.iter().zip(starts) {
            if Poison::is(start, self.poison.window) && !self.plain {
                return self.trap("a window");
            }
            let left_out = Poison::is(start, self.poison.window) || self.spoilt.contains(&slot);
            if !left_out {
                let mut rows = self.values.borrow()[&slot].clone();
                rows.sort_unstable();
                self.out.push((start, rows));
            }
        }
        if then_drop {
            self.spoilt.retain(|slot| !slots.contains(slot));
            self.drop_state(slots)?;
        }
        Ok(())
    }
}

/// Nothing traps.
pub(super) const NONE: Poison = Poison {
    row: 0,
    timer: 0,
    window: 0,
    merge: 0,
};
