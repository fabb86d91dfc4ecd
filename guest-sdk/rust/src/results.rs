//! The records that aggregates put out when nobody says otherwise.

use crate::values::Timestamp;

/// A key and how many rows it had: what [`KeyedStream::count`](crate::KeyedStream::count) puts out.
///
/// ```
/// use millrace::{Counted, Record};
/// assert_eq!(Counted::<i64>::fields()[1].name, "count");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted<K> {
    /// What the rows were keyed by.
    pub key: K,
    /// Rows so far.
    pub count: i64,
}

/// A key, a window and the window's result: what the ready-made aggregates of windows put out.
///
/// ```
/// use millrace::{Record, Windowed};
/// assert_eq!(Windowed::<i64, f64>::fields()[1].name, "start");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windowed<K, V> {
    /// What the rows were keyed by.
    pub key: K,
    /// First moment of the window.
    pub start: Timestamp,
    /// First moment after the window.
    pub end: Timestamp,
    /// The result.
    pub value: V,
}

/// Implements `Record` for a generic struct by the tuple of its fields.
macro_rules! record {
    ($name:ident<$($parameter:ident),*> { $($field:ident: $type:ty),* }) => {
        impl<$($parameter: $crate::value::Owned),*> $crate::value::Value for $name<$($parameter),*> {
            type Of<'a> = Self;
            type Column<'a> = <($($type,)*) as $crate::value::Value>::Column<'a>;
            type Builder = <($($type,)*) as $crate::value::Value>::Builder;

            fn data_type() -> $crate::schema::DataType {
                $crate::schema::DataType::Struct(<Self as $crate::value::Record>::fields())
            }

            fn column<'a>(buffers: &mut $crate::block::Buffers<'a>, rows: usize) -> Self::Column<'a> {
                <($($type,)*) as $crate::value::Value>::column(buffers, rows)
            }

            #[inline(always)]
            fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
                let ($($field,)*) = <($($type,)*) as $crate::value::Value>::get(column, index);
                $name { $($field),* }
            }

            #[inline(always)]
            fn push(builder: &mut Self::Builder, value: Self) {
                <($($type,)*) as $crate::value::Value>::push(builder, ($(value.$field,)*));
            }

            fn push_default(builder: &mut Self::Builder) {
                <($($type,)*) as $crate::value::Value>::push_default(builder);
            }
        }

        impl<$($parameter: $crate::value::Owned),*> $crate::value::Record for $name<$($parameter),*> {
            fn fields() -> Vec<$crate::schema::Field> {
                vec![$(<$type as $crate::value::Value>::field(stringify!($field))),*]
            }
        }
    };
}
record!(Counted<K> { key: K, count: i64 });
record!(Windowed<K, V> { key: K, start: Timestamp, end: Timestamp, value: V });

pub(crate) use record;
