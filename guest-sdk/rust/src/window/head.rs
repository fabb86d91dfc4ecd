//! The head of a chain that begins with a window: of the host, which knows its windows and asks for accumulators to be
//! added to and put out, or of the guest.

use super::Window;
use super::firing::Firing;
use super::guest::GuestWindows;
use crate::OpenContext;
use crate::Stream;
use crate::bindings::operators::CallError;
use crate::block::Block;
use crate::chain::{Chain, Decoded, Emit, Head, RowContext, Rows, Tail, Work, check_slots, failure, take_given};
use crate::position;
use crate::process::{DeclaredState, Migration};
use crate::schema::Field;
use crate::state::kept::{read_values, write_values};
use crate::state::pages::Pages;
use crate::value::{Owned, Record, Value};

/// What is done with the rows of a window.
pub trait WindowFunction: 'static {
    /// Rows that it takes.
    type In: Record;
    /// What they are keyed by.
    type Key: Owned + Clone;
    /// What is kept for a window.
    type Kept: 'static;
    /// As it is stored.
    type Stored: Owned;
    /// Rows that it puts out.
    type Out: Record;

    /// Of no rows.
    fn create(&self) -> Self::Kept;
    /// Adds a row.
    fn add(&self, kept: &mut Self::Kept, row: <Self::In as Value>::Of<'_>);
    /// Adds what was kept for other rows.
    fn merge(&self, kept: &mut Self::Kept, other: &Self::Kept);
    /// To be stored; none if there is nothing.
    fn to_stored(kept: &Self::Kept) -> Option<Self::Stored>;
    /// As it was stored.
    fn revived(stored: Self::Stored) -> Self::Kept;
    /// Estimate of the bytes outside of what is kept.
    fn heap_bytes(_kept: &Self::Kept) -> usize {
        0
    }
    /// Prepares, before the first row.
    fn open(&self, _cx: &OpenContext) {}

    /// The chain has run.
    fn close(&self) {}
    /// Takes the declarations of states of its own out. With those its windows are the guest's.
    #[doc(hidden)]
    fn take_states(&mut self) -> OwnStates {
        OwnStates::default()
    }
    /// A window has ended.
    fn forget(&self, _window: Window) {}
    /// Puts out the result of a window, and says how many rows it is.
    fn finish<E: Emit<Self::Out>>(
        &self,
        fired: Fired<'_, Self::Key, Self::Kept>,
        cx: &mut RowContext,
        next: &mut E,
    ) -> u64;
}

/// A window that fires.
#[derive(Debug)]
pub struct Fired<'f, K, A> {
    pub(crate) operator: u32,
    pub(crate) key: K,
    pub(crate) window: Window,
    pub(crate) kept: &'f A,
}

/// States that a window function declared.
#[doc(hidden)]
#[derive(Default)]
pub struct OwnStates {
    pub(crate) states: Vec<DeclaredState>,
    /// Some of them are kept for each window.
    pub(crate) by_window: bool,
}

/// The head of a chain that begins with a window.
pub struct WindowHead<W: WindowFunction>(Side<W>);

/// Whose windows they are.
enum Side<W: WindowFunction> {
    Host(HostWindows<W>),
    Guest(Box<GuestWindows<W>>),
}

/// Windows of the host: accumulators by slot.
struct HostWindows<W: WindowFunction> {
    function: W,
    operator: u32,
    pages: Pages<W::Kept>,
    given: u64,
    /// Change of bytes outside the pages.
    heap_bytes: i64,
    migrations: Vec<Migration>,
}

impl<W: WindowFunction> std::fmt::Debug for WindowHead<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WindowHead")
    }
}

impl<W: WindowFunction> WindowHead<W> {
    pub(crate) fn of_host(function: W, operator: u32) -> Self {
        WindowHead(Side::Host(HostWindows {
            function,
            operator,
            pages: Pages::new(),
            given: 0,
            heap_bytes: 0,
            migrations: Vec::new(),
        }))
    }

    pub(crate) fn of_guest(windows: GuestWindows<W>) -> Self {
        WindowHead(Side::Guest(Box::new(windows)))
    }

    /// Adds a migration of what is kept for a window. Returns the schema that it is from, or why there can be none.
    fn add_migration<Old: Owned>(
        &mut self,
        migrate: impl Fn(Old) -> W::Stored + 'static,
    ) -> Result<Vec<Field>, &'static str> {
        match &mut self.0 {
            Side::Host(windows) => {
                let migration = Migration::by(migrate);
                let fields = migration.fields.clone();
                windows.migrations.push(migration);
                Ok(fields)
            }
            Side::Guest(windows) => windows.add_migration(migrate),
        }
    }
}

impl<W: WindowFunction> Stream<WindowHead<W>> {
    /// Makes what is kept for a window (the accumulator of an aggregate, the rows or values of the others) from what an
    /// earlier version kept, where no rule converts it: see [`Setup::migrate`](crate::Setup::migrate). With an evictor
    /// windows keep their rows, which have no migrations; behind a two-phase aggregation it is for what the second phase
    /// keeps.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, time: i64 }
    /// #[derive(Record, Clone)]
    /// struct MeanV1 { euros: i64, count: i64 }
    ///
    /// #[derive(Record, Clone)]
    /// struct Mean { cents: i64, count: i64 }
    ///
    /// #[derive(Record, Clone)]
    /// struct MeanPrice { shop: String, cents: i64 }
    ///
    /// fn means(sales: Stream<Rows<Sale>>) {
    ///     sales
    ///         .watermarks(Watermarks::monotonic(Sale::FIELDS.time))
    ///         .key_by(Sale::FIELDS.shop)
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .aggregate_with(
    ///             || Mean { cents: 0, count: 0 },
    ///             |mean, sale| { mean.cents += sale.cents; mean.count += 1 },
    ///             |mean, other| { mean.cents += other.cents; mean.count += other.count },
    ///             |shop, _, mean| MeanPrice { shop, cents: mean.cents / mean.count },
    ///         )
    ///         .migrate(|old: MeanV1| Mean { cents: old.euros * 100, count: old.count })
    ///         .uid("means")
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    #[must_use]
    pub fn migrate<Old: Owned>(mut self, migrate: impl Fn(Old) -> W::Stored + 'static) -> Self {
        if let Some(added) = self.chain_mut().map(|head| head.add_migration(migrate)) {
            self.declare_migration(added);
        }
        self
    }
}

impl<W: WindowFunction> HostWindows<W> {
    fn forget(&mut self, slot: u32) {
        if let Some(kept) = self.pages.get_mut(slot) {
            self.heap_bytes -= W::heap_bytes(kept) as i64;
            *kept = self.function.create();
        }
    }

    #[inline(always)]
    fn run<E: Tail<W::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        let Some(firing) = Firing::of(work)? else {
            return Ok(());
        };
        self.pages.ensure(firing.slots, || self.function.create());
        self.pages.warm(firing.slots);
        let operator = self.operator;
        firing.each(operator, cx, |slot, key, window, cx| {
            let fired = Fired {
                operator,
                key,
                window,
                kept: self.pages.at(slot),
            };
            self.given += self.function.finish(fired, cx, tail);
            if firing.then_drop {
                self.forget(slot);
            }
        });
        Ok(())
    }
}

impl<W: WindowFunction> Chain for WindowHead<W> {
    type Out = W::Out;
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
    fn run<E: Tail<W::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
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

impl<W: WindowFunction> Head for HostWindows<W> {
    fn open(&mut self, context: &OpenContext) {
        position::enter(self.operator);
        self.function.open(context);
    }

    fn close(&mut self) {
        position::enter(self.operator);
        self.function.close();
    }

    fn accumulate(&mut self, _input: u32, slots: &[u32], rows: &Block, time_in: bool) -> Result<(), CallError> {
        check_slots(slots, rows)?;
        self.pages.ensure(slots, || self.function.create());
        self.pages.warm(slots);
        let rows = Decoded::<W::In>::new(rows, time_in);
        for (index, &slot) in slots.iter().enumerate() {
            position::set_entry(index as u32);
            position::enter(self.operator);
            let kept = self.pages.at(slot);
            let before = W::heap_bytes(kept) as i64;
            self.function.add(kept, W::In::get(&rows.columns, index));
            self.heap_bytes += W::heap_bytes(kept) as i64 - before;
        }
        Ok(())
    }

    fn merge(&mut self, targets: &[u32], sources: &[u32]) -> Result<(), CallError> {
        if targets.len() != sources.len() {
            let message = format!("{} targets came with {} sources", targets.len(), sources.len());
            return Err(failure(message));
        }
        self.pages.ensure(targets, || self.function.create());
        self.pages.ensure(sources, || self.function.create());
        self.pages.warm(targets);
        self.pages.warm(sources);
        position::enter(self.operator);
        for (index, (&target, &source)) in targets.iter().zip(sources).enumerate() {
            position::set_entry(index as u32);
            let Some((target, source)) = self.pages.pair(target, source) else {
                return Err(failure(format!("slot {target} cannot be merged into itself")));
            };
            let before = W::heap_bytes(target) as i64;
            self.function.merge(target, source);
            self.heap_bytes += W::heap_bytes(target) as i64 - before;
        }
        position::leave();
        Ok(())
    }

    fn export_state(&mut self, _state: u32, slots: &[u32]) -> Result<Block, CallError> {
        let stored = |&slot: &u32| W::to_stored(self.pages.get(slot)?);
        Ok(write_values(slots.iter().map(stored)))
    }

    fn import_state(&mut self, _state: u32, slots: &[u32], values: &Block) -> Result<(), CallError> {
        check_slots(slots, values)?;
        self.pages.ensure(slots, || self.function.create());
        for (&slot, stored) in slots.iter().zip(read_values(values)) {
            self.forget(slot);
            let kept = stored.map_or_else(|| self.function.create(), W::revived);
            self.heap_bytes += W::heap_bytes(&kept) as i64;
            *self.pages.at(slot) = kept;
        }
        Ok(())
    }

    fn migrate_state(&mut self, state: u32, migration: u32, old: &Block) -> Result<Block, CallError> {
        Migration::run(&self.migrations, self.operator, (state, migration), old)
    }

    fn drop_state(&mut self, slots: &[u32]) {
        for &slot in slots {
            self.forget(slot);
        }
    }

    fn take_touched(&mut self, _touched: &mut Vec<u8>, live_bytes: &mut Vec<i64>) {
        let change = self.pages.take_grown_bytes() + std::mem::take(&mut self.heap_bytes);
        if change != 0 {
            live_bytes.push(change);
        }
    }
}
