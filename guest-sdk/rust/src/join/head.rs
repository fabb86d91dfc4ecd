//! The head of a chain that begins with a window over two inputs: of the host, or of the guest (`guest.rs`).
//!
//! Of the host's, a slot keeps the rows of each side in a vector. When its window has fired the vectors stay, empty, for the next window
//! that gets the slot, unless they are large: then most rows are kept without a call of the allocator, and pairs are made
//! from rows that lie side by side.

use super::guest::{Grouped, TwoStreams};
use crate::Stream;
use crate::bindings::operators::CallError;
use crate::block::Block;
use crate::chain::{Chain, Decoded, Emit, Head, RowContext, Rows, Tail, Work, check_slots, failure, take_given};
use crate::position;
use crate::state::kept::{read_values, write_values};
use crate::state::pages::Pages;
use crate::value::{Owned, Record};
use crate::window::{Firing, GuestWindows, Window};

/// What is done with the rows of a window from two streams.
pub trait GroupFunction: 'static {
    /// Rows of the first stream.
    type First: Record + Owned + Clone;
    /// Rows of the second stream.
    type Second: Record + Owned + Clone;
    /// What they are keyed by.
    type Key: Owned + Clone;
    /// Both as they are stored.
    type Stored: Owned;
    /// Rows that it puts out.
    type Out: Record;

    /// To be stored.
    fn to_stored(first: Vec<Self::First>, second: Vec<Self::Second>) -> Self::Stored;
    /// As they were stored.
    fn from_stored(stored: Self::Stored) -> (Vec<Self::First>, Vec<Self::Second>);
    /// Puts out the results of a window, and says how many rows they are.
    fn group<E: Emit<Self::Out>>(
        &self,
        group: Group<'_, Self::Key, Self::First, Self::Second>,
        cx: &mut RowContext,
        next: &mut E,
    ) -> u64;
}

/// A window that fires: its rows of both streams, each in the order in which they came.
#[derive(Debug)]
pub struct Group<'g, K, T, U> {
    pub(crate) operator: u32,
    pub(crate) key: K,
    pub(crate) window: Window,
    pub(crate) first: &'g [T],
    pub(crate) second: &'g [U],
}

/// A vector with room for more rows is given back when it is not needed.
const KEPT_ROWS_MAX: usize = 32;

/// The rows of a window.
pub(crate) struct KeptRows<T, U> {
    pub(crate) first: Vec<T>,
    pub(crate) second: Vec<U>,
}

/// The head of a chain that begins with a window over two inputs.
pub struct GroupHead<G: GroupFunction>(Side<G>);

/// Windows of the guest.
type Guest<G> = GuestWindows<
    Grouped<G>,
    TwoStreams<<G as GroupFunction>::First, <G as GroupFunction>::Second, <G as GroupFunction>::Key>,
>;

/// Whose windows they are.
enum Side<G: GroupFunction> {
    Host(HostGroups<G>),
    Guest(Box<Guest<G>>),
}

/// Windows of the host: rows by slot.
struct HostGroups<G: GroupFunction> {
    function: G,
    operator: u32,
    pages: Pages<Sides<G>>,
    given: u64,
    /// Change of bytes outside the pages.
    heap_bytes: i64,
}

type Sides<G> = KeptRows<<G as GroupFunction>::First, <G as GroupFunction>::Second>;

impl<T, U> KeptRows<T, U> {
    pub(crate) fn new() -> Self {
        KeptRows {
            first: Vec::new(),
            second: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.second.is_empty()
    }

    /// Bytes of the vectors, without what rows have outside of themselves.
    pub(crate) fn heap_bytes(&self) -> i64 {
        (self.first.capacity() * size_of::<T>() + self.second.capacity() * size_of::<U>()) as i64
    }
}

impl<T: Clone, U: Clone> KeptRows<T, U> {
    /// Adds the rows of another window.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.first.extend_from_slice(&other.first);
        self.second.extend_from_slice(&other.second);
    }

    /// To be stored; none if there are no rows.
    pub(crate) fn to_stored<G: GroupFunction<First = T, Second = U>>(&self) -> Option<G::Stored> {
        (!self.is_empty()).then(|| G::to_stored(self.first.clone(), self.second.clone()))
    }
}

/// Empties a vector; one of moderate size is kept.
fn empty<T>(rows: &mut Vec<T>) {
    if rows.capacity() > KEPT_ROWS_MAX {
        *rows = Vec::new();
    } else {
        rows.clear();
    }
}

impl<G: GroupFunction> std::fmt::Debug for GroupHead<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GroupHead")
    }
}

impl<G: GroupFunction> GroupHead<G> {
    pub(crate) fn of_host(function: G, operator: u32) -> Self {
        GroupHead(Side::Host(HostGroups {
            function,
            operator,
            pages: Pages::new(),
            given: 0,
            heap_bytes: 0,
        }))
    }

    pub(crate) fn of_guest(windows: Guest<G>) -> Self {
        GroupHead(Side::Guest(Box::new(windows)))
    }
}

impl<G: GroupFunction> HostGroups<G> {
    #[inline(always)]
    fn run<E: Tail<G::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        let Some(firing) = Firing::of(work)? else {
            return Ok(());
        };
        self.prepare(firing.slots);
        let operator = self.operator;
        firing.each(operator, cx, |slot, key, window, cx| {
            let kept = self.pages.at(slot);
            let group = Group {
                operator,
                key,
                window,
                first: &kept.first,
                second: &kept.second,
            };
            self.given += self.function.group(group, cx, tail);
            if firing.then_drop {
                self.heap_bytes -= kept.heap_bytes();
                empty(&mut kept.first);
                empty(&mut kept.second);
                self.heap_bytes += kept.heap_bytes();
            }
        });
        Ok(())
    }

    /// Makes room for these slots and brings what is there into the cache.
    fn prepare(&mut self, slots: &[u32]) {
        self.pages.ensure(slots, KeptRows::new);
        self.pages.warm(slots);
    }

    /// Replaces what a slot holds.
    fn put(&mut self, slot: u32, rows: Sides<G>) {
        let kept = self.pages.at(slot);
        self.heap_bytes += rows.heap_bytes() - kept.heap_bytes();
        *kept = rows;
    }
}

/// Appends each row to the rows of its slot, and returns by how many bytes those grew.
#[inline(always)]
fn append<T: Record + Owned, S>(
    operator: u32,
    slots: &[u32],
    rows: &Decoded<'_, T>,
    pages: &mut Pages<S>,
    side: impl Fn(&mut S) -> &mut Vec<T>,
) -> i64 {
    let mut grown = 0;
    for (index, &slot) in slots.iter().enumerate() {
        position::set_entry(index as u32);
        position::enter(operator);
        let side = side(pages.at(slot));
        let before = side.capacity();
        side.push(T::get(&rows.columns, index));
        grown += side.capacity() - before;
    }
    (grown * size_of::<T>()) as i64
}

impl<G: GroupFunction> Chain for GroupHead<G> {
    type Out = G::Out;
    const FALLIBLE: bool = false;
    type Refusing<X: Chain> = Rows<X::Out>;

    fn refusing<X: Chain>(stream: Stream<X>) -> Stream<Rows<X::Out>> {
        stream.share()
    }

    type Alone = Self;

    fn alone(stream: Stream<Self>) -> Stream<Self> {
        stream
    }

    #[inline(always)]
    fn run<E: Tail<G::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        match &mut self.0 {
            Side::Host(windows) => windows.run(work, cx, tail),
            Side::Guest(windows) => windows.run(work, cx, tail),
        }
    }

    fn head(&mut self) -> &mut dyn Head {
        match &mut self.0 {
            Side::Host(windows) => windows,
            Side::Guest(windows) => &mut **windows,
        }
    }

    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64 {
        let given = match &mut self.0 {
            Side::Host(windows) => &mut windows.given,
            Side::Guest(windows) => &mut windows.given,
        };
        take_given(given, emitted)
    }
}

impl<G: GroupFunction> Head for HostGroups<G> {
    fn accumulate(&mut self, input: u32, slots: &[u32], rows: &Block, time_in: bool) -> Result<(), CallError> {
        check_slots(slots, rows)?;
        self.prepare(slots);
        let (operator, pages) = (self.operator, &mut self.pages);
        self.heap_bytes += match input {
            0 => append(
                operator,
                slots,
                &Decoded::<G::First>::new(rows, time_in),
                pages,
                |kept| &mut kept.first,
            ),
            1 => append(
                operator,
                slots,
                &Decoded::<G::Second>::new(rows, time_in),
                pages,
                |kept| &mut kept.second,
            ),
            _ => return Err(failure(format!("this chain has no input {input}"))),
        };
        Ok(())
    }

    fn merge(&mut self, targets: &[u32], sources: &[u32]) -> Result<(), CallError> {
        if targets.len() != sources.len() {
            let message = format!("{} targets came with {} sources", targets.len(), sources.len());
            return Err(failure(message));
        }
        self.prepare(targets);
        self.prepare(sources);
        for (&target, &source) in targets.iter().zip(sources) {
            let Some((target, source)) = self.pages.pair(target, source) else {
                return Err(failure(format!("slot {target} cannot be merged into itself")));
            };
            self.heap_bytes -= target.heap_bytes();
            target.extend(source);
            self.heap_bytes += target.heap_bytes();
        }
        Ok(())
    }

    fn export_state(&mut self, _state: u32, slots: &[u32]) -> Result<Block, CallError> {
        let stored = |&slot: &u32| self.pages.get(slot)?.to_stored::<G>();
        Ok(write_values(slots.iter().map(stored)))
    }

    fn import_state(&mut self, _state: u32, slots: &[u32], values: &Block) -> Result<(), CallError> {
        check_slots(slots, values)?;
        self.prepare(slots);
        for (&slot, stored) in slots.iter().zip(read_values(values)) {
            let (first, second) = stored.map(G::from_stored).unwrap_or_default();
            self.put(slot, KeptRows { first, second });
        }
        Ok(())
    }

    fn drop_state(&mut self, slots: &[u32]) {
        for &slot in slots {
            if self.pages.get(slot).is_some() {
                self.put(slot, KeptRows::new());
            }
        }
    }

    fn take_touched(&mut self, _touched: &mut Vec<u8>, live_bytes: &mut Vec<i64>) {
        let change = self.pages.take_grown_bytes() + std::mem::take(&mut self.heap_bytes);
        if change != 0 {
            live_bytes.push(change);
        }
    }
}
