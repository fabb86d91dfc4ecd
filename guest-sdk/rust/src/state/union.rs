//! A list of a subtask, beside the items of all.

use std::cell::RefCell;
use std::rc::Rc;

use super::cell::Cell;
use super::{ListState, State, WholeState};
use crate::value::Owned;

/// Where the host puts the items of all subtasks.
const ALL: u32 = 1;

/// A list of the subtask, with a look at the items of all subtasks as they were when the job went on from a checkpoint or
/// savepoint: what `getUnionListState` gives in Flink.
///
/// [`own`](Self::own) is the list that is stored: each subtask has its own, and items are dealt out where the number of subtasks
/// changes. [`restored`](Self::restored) is what all of them had together, the same in every subtask. In Flink the two are one, so
/// that a function which does not clear and fill the list at every checkpoint has each item once for every subtask after a
/// restart; here there is nothing to be forgotten.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Job { id: i64 }
///
/// /// Lets each id pass once in a subtask, and none that any subtask had let pass before the last restart.
/// struct Once { done: UnionState<i64> }
///
/// impl StatefulProcess for Once {
///     type In = Job;
///     type Out = Job;
///
///     fn process(&mut self, job: Job, out: &mut Out<'_, Job>) {
///         let known = |ids: &[i64]| ids.contains(&job.id);
///         if !self.done.with_restored(known) && !self.done.own().with(known) {
///             self.done.own().push(job.id);
///             out.push(job);
///         }
///     }
/// }
/// ```
pub struct UnionState<T: Owned + Clone>
where
    Vec<T>: Owned,
{
    own: ListState<T>,
    cell: Rc<RefCell<Cell<Vec<T>>>>,
}

impl<T: Owned + Clone> std::fmt::Debug for UnionState<T>
where
    Vec<T>: Owned,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnionState")
    }
}

impl<T: Owned + Clone> State for UnionState<T>
where
    Vec<T>: Owned,
{
    fn place(&self) -> *const () {
        self.own.place()
    }
}

impl<T: Owned + Clone> WholeState for UnionState<T>
where
    Vec<T>: Owned,
{
    type Stored = Vec<T>;
}

impl<T: Owned + Clone> UnionState<T>
where
    Vec<T>: Owned,
{
    pub(crate) fn new() -> (Self, Rc<RefCell<Cell<Vec<T>>>>) {
        let (own, cell) = ListState::new();
        let shared = Rc::clone(&cell);
        (UnionState { own, cell: shared }, cell)
    }

    /// The list of this subtask.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn remember(seen: &UnionState<i64>, id: i64) { seen.own().push(id); }
    /// ```
    pub fn own(&self) -> &ListState<T> {
        &self.own
    }

    /// The items of all subtasks, in the order of subtasks, as they were when the job went on; none where it began with
    /// nothing.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn highest(seen: &UnionState<i64>) -> Option<i64> { seen.restored().into_iter().max() }
    /// ```
    pub fn restored(&self) -> Vec<T> {
        self.with_restored(<[T]>::to_vec)
    }

    /// Looks at them in place.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn highest(seen: &UnionState<i64>) -> Option<i64> { seen.with_restored(|ids| ids.iter().copied().max()) }
    /// ```
    pub fn with_restored<R>(&self, look: impl FnOnce(&[T]) -> R) -> R {
        let cell = self.cell.borrow();
        look(cell.at(ALL).map_or(&[], Vec::as_slice))
    }
}
