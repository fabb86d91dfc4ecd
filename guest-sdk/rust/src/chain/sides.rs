//! Side outputs: more ports of a chain, each with rows of its own type, found by operator and tag.

use std::any::Any;

use super::exit::{NoExtra, Port};
use crate::bindings::operators::Output;
use crate::value::Record;

/// A port whose record type is forgotten.
trait SidePort: Any {
    fn open(&mut self, time_out: bool, holds: bool);
    fn rows(&self) -> usize;
    fn truncate(&mut self, rows: usize);
    fn settle(&mut self);
    fn finish(&mut self, outputs: &mut Vec<Output>);
}

impl<T: Record> SidePort for Port<T, NoExtra> {
    fn open(&mut self, time_out: bool, holds: bool) {
        self.set_carries_time(time_out);
        self.set_holds(holds);
    }

    fn rows(&self) -> usize {
        Port::rows(self)
    }

    fn truncate(&mut self, rows: usize) {
        Port::truncate(self, rows);
    }

    fn settle(&mut self) {
        Port::settle(self);
    }

    fn finish(&mut self, outputs: &mut Vec<Output>) {
        self.take_output(outputs);
    }
}

/// One side output of one operator.
struct Side {
    operator: u32,
    tag: &'static str,
    port: Box<dyn SidePort>,
}

/// The side outputs of a chain.
#[derive(Default)]
pub(crate) struct Sides {
    sides: Vec<Side>,
}

/// Rows of each side output when the entry began.
#[derive(Debug, Default)]
pub(crate) struct SideMarks {
    rows: Vec<usize>,
}

impl std::fmt::Debug for Sides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.sides.iter().map(|side| side.tag)).finish()
    }
}

impl Sides {
    pub(crate) fn add<T: Record>(&mut self, operator: u32, tag: &'static str, number: u32) {
        let port = Box::new(Port::<T, NoExtra>::new(number, NoExtra, false));
        self.sides.push(Side { operator, tag, port });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sides.is_empty()
    }

    /// Puts a row out, if somebody takes that output.
    pub(crate) fn push<T: Record>(&mut self, operator: u32, tag: &str, row: T::Of<'_>, time: i64) {
        let found = self
            .sides
            .iter_mut()
            .find(|side| side.operator == operator && side.tag == tag);
        let Some(side) = found else {
            return;
        };
        let port: &mut dyn Any = side.port.as_mut();
        let Some(port) = port.downcast_mut::<Port<T, NoExtra>>() else {
            panic!(
                "side output `{tag}` was taken with another record type than {}",
                std::any::type_name::<T>()
            );
        };
        port.append(row, time);
    }

    /// `holds`: full blocks wait for the end of an entry, which may yet be refused.
    pub(crate) fn open(&mut self, time_out: bool, holds: bool) {
        for side in &mut self.sides {
            side.port.open(time_out, holds);
        }
    }

    /// An entry begins: full blocks of those before it may go.
    pub(crate) fn mark(&mut self, marks: &mut SideMarks) {
        marks.rows.clear();
        for side in &mut self.sides {
            side.port.settle();
            marks.rows.push(side.port.rows());
        }
    }

    pub(crate) fn undo(&mut self, marks: &SideMarks) {
        for (side, &rows) in self.sides.iter_mut().zip(&marks.rows) {
            side.port.truncate(rows);
        }
    }

    pub(crate) fn finish(&mut self, outputs: &mut Vec<Output>) {
        for side in &mut self.sides {
            side.port.finish(outputs);
        }
    }
}
