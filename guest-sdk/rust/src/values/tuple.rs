//! Tuples of up to six values: structs whose members are named `0`, `1` and so on. Keys of several parts
//! are tuples.

use crate::block::{BlockWriter, Buffers};
use crate::schema::{DataType, Field};
use crate::value::{Builder, Record, Value};

macro_rules! tuple {
    ($($name:ident $index:tt),*) => {
        impl<$($name: Value),*> Value for ($($name,)*) {
            type Of<'a> = ($($name::Of<'a>,)*);
            type Column<'a> = ($($name::Column<'a>,)*);
            type Builder = ($($name::Builder,)*);

            fn data_type() -> DataType {
                DataType::Struct(Self::fields())
            }

            #[inline]
            fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
                ($($name::column(buffers, rows),)*)
            }

            #[inline(always)]
            fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
                ($($name::get(&column.$index, index),)*)
            }

            #[inline(always)]
            fn push(builder: &mut Self::Builder, value: Self::Of<'_>) {
                $($name::push(&mut builder.$index, value.$index);)*
            }

            #[inline]
            fn push_default(builder: &mut Self::Builder) {
                $($name::push_default(&mut builder.$index);)*
            }
        }

        impl<$($name: Value),*> Record for ($($name,)*) {
            fn fields() -> Vec<Field> {
                vec![$($name::field(stringify!($index))),*]
            }
        }

        impl<$($name: Builder),*> Builder for ($($name,)*) {
            fn rows(&self) -> usize {
                self.0.rows()
            }

            fn bytes(&self) -> usize {
                0 $(+ self.$index.bytes())*
            }

            fn reserve(&mut self, rows: usize) {
                $(self.$index.reserve(rows);)*
            }

            fn truncate(&mut self, rows: usize) {
                $(self.$index.truncate(rows);)*
            }

            fn finish(&mut self, writer: &mut BlockWriter) {
                $(self.$index.finish(writer);)*
            }
        }
    };
}
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
