//! How each Rust type becomes a column: one file per kind of type.
//!
//! A type that is not here and not a record cannot be a field; the compiler says that `Value` is not
//! implemented for it. The columns and builders are public because records name them; programs use them
//! through [`crate::value::Value`].

mod boolean;
mod bytes;
mod fixed;
mod list;
mod number;
mod option;
mod text;
mod time;
mod tuple;

pub use boolean::BooleanBuilder;
pub use bytes::{Bytes, BytesBuilder, BytesColumn};
pub use fixed::{Decimal, FixedBuilder};
pub use list::{ListBuilder, ListColumn};
pub use number::NumberBuilder;
pub use option::{NullableBuilder, NullableColumn};
pub use text::TextColumn;
pub use time::{
    Date, LocalTimestamp, LocalTimestampMicros, LocalTimestampNanos, LocalTimestampSeconds, Time, Timestamp,
    TimestampMicros, TimestampNanos, TimestampSeconds,
};

/// For derived code: the host checks tags, so that this is a defect.
#[doc(hidden)]
#[cold]
pub fn unknown_tag(name: &str, tag: i8) -> ! {
    panic!("{name} has no variant {tag}")
}
