//! Window joins and co-groups in windows that run in the guest: with any assigner, clock, trigger and evictor.
//!
//! To such windows the rows of both streams are rows of one type, [`TaggedUnion`], as in Flink. What a window keeps of them
//! is divided by stream, so that the function that is run when it fires is that of the host's windows.

use super::head::KeptRows;
use super::{Group, GroupFunction, TaggedUnion};
use crate::bindings::operators::CallError;
use crate::chain::{Emit, RowContext, Tail};
use crate::keyed::SharedKey;
use crate::process::KeyedRows;
use crate::value::{Owned, Record, Value};
use crate::window::{Fired, GuestWindows, Inputs, Tag, WindowFunction};
use std::rc::Rc;

/// A function of the rows of both streams, as one of windows.
pub(crate) struct Grouped<G>(pub(crate) G);

impl<G: GroupFunction> WindowFunction for Grouped<G> {
    type In = TaggedUnion<G::First, G::Second>;
    type Key = G::Key;
    type Kept = KeptRows<G::First, G::Second>;
    type Stored = G::Stored;
    type Out = G::Out;

    fn create(&self) -> Self::Kept {
        KeptRows::new()
    }

    #[inline(always)]
    fn add(&self, kept: &mut Self::Kept, row: TaggedUnion<G::First, G::Second>) {
        match row {
            TaggedUnion::First(row) => kept.first.push(row),
            TaggedUnion::Second(row) => kept.second.push(row),
        }
    }

    fn merge(&self, kept: &mut Self::Kept, other: &Self::Kept) {
        kept.extend(other);
    }

    fn to_stored(kept: &Self::Kept) -> Option<G::Stored> {
        kept.to_stored::<G>()
    }

    fn revived(stored: G::Stored) -> Self::Kept {
        let (first, second) = G::from_stored(stored);
        KeptRows { first, second }
    }

    fn heap_bytes(kept: &Self::Kept) -> usize {
        kept.heap_bytes() as usize
    }

    fn finish<E: Emit<G::Out>>(&self, fired: Fired<'_, G::Key, Self::Kept>, cx: &mut RowContext, next: &mut E) -> u64 {
        let group = Group {
            operator: fired.operator,
            key: fired.key,
            window: fired.window,
            first: &fired.kept.first,
            second: &fired.kept.second,
        };
        self.0.group(group, cx, next)
    }
}

/// The rows of two streams.
pub(crate) struct TwoStreams<T: Record, U: Record, K> {
    pub(crate) first: SharedKey<T, K>,
    pub(crate) second: SharedKey<U, K>,
    /// Tags of the side outputs that get late rows.
    pub(crate) late: Option<(&'static str, &'static str)>,
}

struct OfFirst;
struct OfSecond;

impl<T: Record + Owned, U: Record + Owned> Tag<T, TaggedUnion<T, U>> for OfFirst {
    #[inline(always)]
    fn tag<'a>(row: T::Of<'a>) -> <TaggedUnion<T, U> as Value>::Of<'a> {
        TaggedUnion::First(row)
    }
}

impl<T: Record + Owned, U: Record + Owned> Tag<U, TaggedUnion<T, U>> for OfSecond {
    #[inline(always)]
    fn tag<'a>(row: U::Of<'a>) -> <TaggedUnion<T, U> as Value>::Of<'a> {
        TaggedUnion::Second(row)
    }
}

impl<G: GroupFunction> Inputs<Grouped<G>> for TwoStreams<G::First, G::Second, G::Key> {
    const STREAMS: u32 = 2;

    #[inline(always)]
    fn rows<E: Tail<G::Out>>(
        windows: &mut GuestWindows<Grouped<G>, Self>,
        rows: &KeyedRows<'_>,
        cx: &mut RowContext,
        tail: &mut E,
    ) -> Result<(), CallError> {
        match rows.input {
            0 => {
                let selector = Rc::clone(&windows.inputs.first);
                windows.each_row::<G::First, OfFirst, E>(rows, &*selector, cx, tail);
            }
            1 => {
                let selector = Rc::clone(&windows.inputs.second);
                windows.each_row::<G::Second, OfSecond, E>(rows, &*selector, cx, tail);
            }
            _ => return rows.unknown_input(),
        }
        Ok(())
    }

    fn put_late(&self, operator: u32, row: TaggedUnion<G::First, G::Second>, cx: &mut RowContext) -> bool {
        let Some((first, second)) = self.late else { return false };
        let time = cx.time;
        match row {
            TaggedUnion::First(row) => cx.sides.push::<G::First>(operator, first, row, time),
            TaggedUnion::Second(row) => cx.sides.push::<G::Second>(operator, second, row, time),
        }
        true
    }
}
