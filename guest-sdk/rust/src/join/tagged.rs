//! The rows of two streams as rows of one type.

use crate::block::Buffers;
use crate::schema::{DataType, Field};
use crate::value::{Owned, Record, Value};

/// A row of one of two streams: what assigners, triggers and evictors of [window joins](super::JoinedStreams::window) and
/// [co-groups](super::CoGroupedStreams::window) see. Those that are ready-made take any rows.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct View { page: i64 }
///
/// #[derive(Record, Clone)]
/// struct Click { page: i64, is_last: bool }
///
/// /// At the last click of a page.
/// struct AtLastClick;
///
/// impl Trigger<TaggedUnion<View, Click>> for AtLastClick {
///     type State = bool;
///
///     fn on_row(&self, row: &TaggedUnion<View, Click>, _cx: &mut TriggerContext<'_, bool>) -> TriggerResult {
///         match row {
///             TaggedUnion::Second(click) if click.is_last => TriggerResult::FireAndPurge,
///             TaggedUnion::First(_) | TaggedUnion::Second(_) => TriggerResult::Continue,
///         }
///     }
/// }
///
/// fn seen(views: KeyedStream<View, i64>, clicks: KeyedStream<Click, i64>) {
///     views
///         .join(clicks)
///         .window(GlobalWindows)
///         .trigger(AtLastClick)
///         .apply(|view, _click| (view.page,))
///         .sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum TaggedUnion<T, U> {
    /// A row of the first stream.
    First(T),
    /// A row of the second stream.
    Second(U),
}

impl<T, U> TaggedUnion<T, U> {
    /// The row, if it is of the first stream.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// assert_eq!(TaggedUnion::<i64, i64>::First(7).first(), Some(&7));
    /// ```
    pub fn first(&self) -> Option<&T> {
        match self {
            TaggedUnion::First(row) => Some(row),
            TaggedUnion::Second(_) => None,
        }
    }

    /// The row, if it is of the second stream.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// assert_eq!(TaggedUnion::<i64, i64>::First(7).second(), None);
    /// ```
    pub fn second(&self) -> Option<&U> {
        match self {
            TaggedUnion::First(_) => None,
            TaggedUnion::Second(row) => Some(row),
        }
    }
}

/// As it is stored: a column for each, of which one is null.
type Stored<T, U> = (Option<T>, Option<U>);

impl<T: Owned, U: Owned> Value for TaggedUnion<T, U> {
    type Of<'a> = Self;
    type Column<'a> = <Stored<T, U> as Value>::Column<'a>;
    type Builder = <Stored<T, U> as Value>::Builder;

    fn data_type() -> DataType {
        DataType::Struct(Self::fields())
    }

    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
        <Stored<T, U> as Value>::column(buffers, rows)
    }

    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
        match <Stored<T, U> as Value>::get(column, index) {
            (Some(row), _) => TaggedUnion::First(row),
            (None, Some(row)) => TaggedUnion::Second(row),
            (None, None) => panic!("a stored row is of neither stream: `first` or `second` has to be there"),
        }
    }

    fn push(builder: &mut Self::Builder, value: Self) {
        let stored = match value {
            TaggedUnion::First(row) => (Some(row), None),
            TaggedUnion::Second(row) => (None, Some(row)),
        };
        <Stored<T, U> as Value>::push(builder, stored);
    }

    fn push_default(builder: &mut Self::Builder) {
        <Stored<T, U> as Value>::push_default(builder);
    }
}

impl<T: Owned, U: Owned> Record for TaggedUnion<T, U> {
    fn fields() -> Vec<Field> {
        vec![<Option<T>>::field("first"), <Option<U>>::field("second")]
    }
}
