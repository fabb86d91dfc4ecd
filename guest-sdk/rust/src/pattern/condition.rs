//! Conditions of stages: of one row, or of a row and those that the match has before.

use super::matched::Matched;
use crate::value::{Record, Value};

/// A condition of a row.
type Simple<T> = Box<dyn for<'r, 'a> Fn(&'r <T as Value>::Of<'a>) -> bool>;

/// A condition of a row and of the rows before.
type Iterative<T> = Box<dyn for<'r, 'a, 'm, 'b> Fn(&'r <T as Value>::Of<'a>, &'r Matched<'m, 'b, T>) -> bool>;

/// Conditions, joined.
pub(super) enum Condition<T: Record> {
    Simple(Simple<T>),
    Iterative(Iterative<T>),
    And(Box<Condition<T>>, Box<Condition<T>>),
    Or(Box<Condition<T>>, Box<Condition<T>>),
}

impl<T: Record> Condition<T> {
    /// Whether it looks at other rows.
    pub(super) fn is_iterative(&self) -> bool {
        match self {
            Condition::Simple(_) => false,
            Condition::Iterative(_) => true,
            Condition::And(first, second) | Condition::Or(first, second) => {
                first.is_iterative() || second.is_iterative()
            }
        }
    }

    /// Whether it holds of a row, as far as can be said of the row alone.
    pub(super) fn may_hold(&self, row: &T::Of<'_>) -> bool {
        match self {
            Condition::Simple(condition) => condition(row),
            Condition::Iterative(_) => true,
            Condition::And(first, second) => first.may_hold(row) && second.may_hold(row),
            Condition::Or(first, second) => first.may_hold(row) || second.may_hold(row),
        }
    }

    /// Whether it holds of a row behind others.
    pub(super) fn holds(&self, row: &T::Of<'_>, before: &Matched<'_, '_, T>) -> bool {
        match self {
            Condition::Simple(condition) => condition(row),
            Condition::Iterative(condition) => condition(row, before),
            Condition::And(first, second) => first.holds(row, before) && second.holds(row, before),
            Condition::Or(first, second) => first.holds(row, before) || second.holds(row, before),
        }
    }
}
