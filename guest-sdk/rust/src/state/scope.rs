//! Whose the values of a state are: a key's, or those of each window of a key. Handles of states are written once, over a
//! place that has what is kept for whoever is at hand.

use std::cell::RefCell;
use std::rc::Rc;

use super::cell::Cell;
use super::kept::Kept;

/// Whose the values of a state are: [`OfKey`], or [`OfWindow`](crate::window::OfWindow).
pub trait Scope: 'static {
    /// Where they are.
    #[doc(hidden)]
    type Place<A: Kept>: Place<A>;
}

/// What is kept for whoever is at hand.
pub trait Place<A: Kept> {
    /// Looks at it; none if nothing was ever kept near it.
    fn read<R>(&self, look: impl FnOnce(Option<&A>) -> R) -> R;

    /// Changes it, beginning with nothing. `change` says what comes of the call and whether something is there afterwards;
    /// `reads`, whether that depends on what was there.
    fn write<R>(&self, reads: bool, change: impl FnOnce(&mut A) -> (R, bool)) -> R;

    /// Forgets it.
    fn clear(&self);
}

/// Values of keys: those of a row's or timer's key are at hand.
#[derive(Debug, Clone, Copy)]
pub struct OfKey;

impl Scope for OfKey {
    type Place<A: Kept> = KeyPlace<A>;
}

/// What is kept for the key at hand.
pub struct KeyPlace<A>(pub(super) Rc<RefCell<Cell<A>>>);

impl<A: Kept> Place<A> for KeyPlace<A> {
    #[inline(always)]
    fn read<R>(&self, look: impl FnOnce(Option<&A>) -> R) -> R {
        look(self.0.borrow_mut().read())
    }

    #[inline(always)]
    fn write<R>(&self, reads: bool, change: impl FnOnce(&mut A) -> (R, bool)) -> R {
        self.0.borrow_mut().write(reads, change)
    }

    fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

impl<A: Kept> KeyPlace<A> {
    /// With the storage behind it.
    pub(super) fn new() -> (Self, Rc<RefCell<Cell<A>>>) {
        let cell = Rc::new(RefCell::new(Cell::new()));
        (KeyPlace(Rc::clone(&cell)), cell)
    }

    /// Tells it from all others.
    pub(super) fn address(&self) -> *const () {
        Rc::as_ptr(&self.0).cast()
    }
}
