//! What rows are keyed by: fields, or a closure.
//!
//! For fields the host reads the columns and the guest does nothing. A closure runs in the guest, at the
//! port before the exchange, and its result travels as a column of its own.

use std::rc::Rc;

use crate::schema::{DataType, Field};
use crate::value::{FieldRef, Owned, Record, Value};

/// A type of field that can be a key, and the owned form of it: `&str` is a key as `String`.
pub trait AsKey: Value {
    /// The owned form.
    type Key: Owned + Clone;
    /// Makes the owned form.
    fn to_key(value: &Self::Of<'_>) -> Self::Key;
}

impl<V: Owned + Clone> AsKey for V {
    type Key = V;
    fn to_key(value: &V) -> V {
        value.clone()
    }
}

impl AsKey for &'static str {
    type Key = String;
    fn to_key(value: &&str) -> String {
        (*value).to_owned()
    }
}

/// What rows are keyed by: a field, a tuple of fields, or a closure over the row.
pub trait KeySelector<T: Record>: 'static {
    /// The key of a row.
    type Key: Owned + Clone;

    /// Which columns the key is; none if it is computed.
    fn columns(&self) -> Option<Vec<u32>>;

    /// Schema of the key.
    fn fields(&self) -> Vec<Field>;

    /// The key of this row.
    fn key(&self, row: &T::Of<'_>) -> Self::Key;
}

impl<T: Record, F: AsKey> KeySelector<T> for FieldRef<T, F> {
    type Key = F::Key;

    fn columns(&self) -> Option<Vec<u32>> {
        Some(vec![self.index()])
    }

    fn fields(&self) -> Vec<Field> {
        vec![F::field(self.name())]
    }

    fn key(&self, row: &T::Of<'_>) -> F::Key {
        F::to_key(self.get(row))
    }
}

impl<T: Record, C, K> KeySelector<T> for C
where
    C: for<'r, 'a> Fn(&'r T::Of<'a>) -> K + 'static,
    K: Owned + Clone,
{
    type Key = K;

    fn columns(&self) -> Option<Vec<u32>> {
        None
    }

    fn fields(&self) -> Vec<Field> {
        vec![K::field("key")]
    }

    fn key(&self, row: &T::Of<'_>) -> K {
        self(row)
    }
}

/// A selector that a port and a head share.
pub(crate) struct Shared<S>(pub(crate) Rc<S>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Shared(Rc::clone(&self.0))
    }
}

/// Name of the first part of a key that cannot be one, and why.
pub(crate) fn unfit_for_key(fields: &[Field]) -> Option<(String, &'static str)> {
    fields.iter().find_map(|field| {
        let why = match field.data_type {
            DataType::Float32 | DataType::Float64 => Some("a float"),
            DataType::Map(_) => Some("a map"),
            _ => None,
        };
        match why {
            Some(why) => Some((field.name.clone(), why)),
            None => {
                unfit_for_key(field.data_type.children()).map(|(inner, why)| (format!("{}.{inner}", field.name), why))
            }
        }
    })
}
