//! What becomes of two rows that belong together, and of one that has no partner.

use crate::value::{Owned, Record};

/// Only rows with a partner are put out.
#[derive(Debug, Clone, Copy)]
pub struct Inner<F = ()>(pub(crate) F);

/// So are rows of the first stream without one.
#[derive(Debug, Clone, Copy)]
pub struct Left<F = ()>(pub(crate) F);

/// So are rows of the second stream without one.
#[derive(Debug, Clone, Copy)]
pub struct Right<F = ()>(pub(crate) F);

/// So are rows of both streams without one.
#[derive(Debug, Clone, Copy)]
pub struct Full<F = ()>(pub(crate) F);

/// Makes a result of two rows, or of one that has no partner.
pub trait Pairing<T, U>: 'static {
    /// The result.
    type Out: Record + Owned;
    /// Whether rows of the first stream are put out alone.
    const FIRST_ALONE: bool;
    /// Whether rows of the second stream are put out alone.
    const SECOND_ALONE: bool;

    /// Of two rows.
    fn both(&self, first: &T, second: &U) -> Self::Out;
    /// Of a row of the first stream that has no partner.
    fn first(&self, first: &T) -> Option<Self::Out>;
    /// Of a row of the second stream that has no partner.
    fn second(&self, second: &U) -> Option<Self::Out>;
}

impl<T, U, O: Record + Owned, F: Fn(&T, &U) -> O + 'static> Pairing<T, U> for Inner<F> {
    type Out = O;
    const FIRST_ALONE: bool = false;
    const SECOND_ALONE: bool = false;

    #[inline(always)]
    fn both(&self, first: &T, second: &U) -> O {
        self.0(first, second)
    }

    fn first(&self, _first: &T) -> Option<O> {
        None
    }

    fn second(&self, _second: &U) -> Option<O> {
        None
    }
}

impl<T, U, O: Record + Owned, F: Fn(&T, Option<&U>) -> O + 'static> Pairing<T, U> for Left<F> {
    type Out = O;
    const FIRST_ALONE: bool = true;
    const SECOND_ALONE: bool = false;

    #[inline(always)]
    fn both(&self, first: &T, second: &U) -> O {
        self.0(first, Some(second))
    }

    fn first(&self, first: &T) -> Option<O> {
        Some(self.0(first, None))
    }

    fn second(&self, _second: &U) -> Option<O> {
        None
    }
}

impl<T, U, O: Record + Owned, F: Fn(Option<&T>, &U) -> O + 'static> Pairing<T, U> for Right<F> {
    type Out = O;
    const FIRST_ALONE: bool = false;
    const SECOND_ALONE: bool = true;

    #[inline(always)]
    fn both(&self, first: &T, second: &U) -> O {
        self.0(Some(first), second)
    }

    fn first(&self, _first: &T) -> Option<O> {
        None
    }

    fn second(&self, second: &U) -> Option<O> {
        Some(self.0(None, second))
    }
}

impl<T, U, O: Record + Owned, F: Fn(Option<&T>, Option<&U>) -> O + 'static> Pairing<T, U> for Full<F> {
    type Out = O;
    const FIRST_ALONE: bool = true;
    const SECOND_ALONE: bool = true;

    #[inline(always)]
    fn both(&self, first: &T, second: &U) -> O {
        self.0(Some(first), Some(second))
    }

    fn first(&self, first: &T) -> Option<O> {
        Some(self.0(Some(first), None))
    }

    fn second(&self, second: &U) -> Option<O> {
        Some(self.0(None, Some(second)))
    }
}
