//! What rows are keyed by: fields, or a closure.
//!
//! For fields the host reads the columns and the guest does nothing. A closure runs in the guest, at the
//! port before the exchange, and its result travels as a column of its own.

use std::rc::Rc;

use crate::schema::{DataType, Field};
use crate::value::{FieldAt, FieldRef, Owned, Record, Value};

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

    /// Whether the guest computes it.
    const COMPUTED: bool = false;

    /// Which columns the key is; none if it is computed.
    fn columns(&self) -> Vec<u32>;

    /// Schema of the key.
    fn fields(&self) -> Vec<Field>;

    /// The key of this row.
    fn key(&self, row: &T::Of<'_>) -> Self::Key;
}

impl<T, F, A> KeySelector<T> for FieldRef<T, F, A>
where
    T: Record,
    A: FieldAt<Row = T, Field = F>,
    F: AsKey,
{
    type Key = F::Key;

    fn columns(&self) -> Vec<u32> {
        vec![self.index()]
    }

    fn fields(&self) -> Vec<Field> {
        columns_of::<T, 1>([self.index()])
    }

    fn key(&self, row: &T::Of<'_>) -> F::Key {
        F::to_key(self.get(row))
    }
}

/// These columns of a record, with what they say of earlier versions.
fn columns_of<T: Record, const N: usize>(columns: [u32; N]) -> Vec<Field> {
    let fields = T::fields();
    columns.map(|column| fields[column as usize].clone()).to_vec()
}

macro_rules! tuples {
    ($(($($field:ident $position:tt $accessor:ident),*))*) => {$(
        impl<T, $($field, $accessor),*> KeySelector<T> for ($(FieldRef<T, $field, $accessor>,)*)
        where
            T: Record,
            $($field: AsKey, $accessor: FieldAt<Row = T, Field = $field>,)*
        {
            type Key = ($($field::Key,)*);

            fn columns(&self) -> Vec<u32> {
                vec![$(self.$position.index()),*]
            }

            fn fields(&self) -> Vec<Field> {
                columns_of::<T, _>([$(self.$position.index()),*])
            }

            fn key(&self, row: &T::Of<'_>) -> Self::Key {
                ($($field::to_key(self.$position.get(row)),)*)
            }
        }
    )*};
}
tuples! {
    (A 0 X)
    (A 0 X, B 1 Y)
    (A 0 X, B 1 Y, C 2 Z)
    (A 0 X, B 1 Y, C 2 Z, D 3 U)
    (A 0 X, B 1 Y, C 2 Z, D 3 U, E 4 V)
    (A 0 X, B 1 Y, C 2 Z, D 3 U, E 4 V, F 5 W)
}

impl<T: Record, C, K> KeySelector<T> for C
where
    C: for<'r, 'a> Fn(&'r T::Of<'a>) -> K + 'static,
    K: Owned + Clone,
{
    const COMPUTED: bool = true;
    type Key = K;

    fn columns(&self) -> Vec<u32> {
        Vec::new()
    }

    fn fields(&self) -> Vec<Field> {
        vec![K::field("key")]
    }

    fn key(&self, row: &T::Of<'_>) -> K {
        self(row)
    }
}

/// A selector whose type is forgotten, but for its key.
pub(crate) trait KeyFunction<T: Record, K> {
    /// The key of this row.
    fn key_of(&self, row: &T::Of<'_>) -> K;
    /// Schema of the key.
    fn key_fields(&self) -> Vec<Field>;
}

impl<T: Record, S: KeySelector<T>> KeyFunction<T, S::Key> for S {
    fn key_of(&self, row: &T::Of<'_>) -> S::Key {
        self.key(row)
    }

    fn key_fields(&self) -> Vec<Field> {
        self.fields()
    }
}

/// A selector that a keyed stream and its heads share.
pub(crate) type SharedKey<T, K> = Rc<dyn KeyFunction<T, K>>;

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn floats_and_maps_are_no_keys() {
        let check = |fields: &[Field], expect: Option<(&str, &str)>| {
            let unfit = unfit_for_key(fields);
            assert_eq!(unfit.as_ref().map(|(name, why)| (name.as_str(), *why)), expect);
        };
        check(&[i64::field("a"), String::field("b")], None);
        check(&[i64::field("a"), f32::field("b")], Some(("b", "a float")));
        check(&[<(i64, (u8, f64))>::field("a")], Some(("a.1.1", "a float")));
        check(&[<Vec<BTreeMap<i64, i64>>>::field("a")], Some(("a.item", "a map")));
    }
}
