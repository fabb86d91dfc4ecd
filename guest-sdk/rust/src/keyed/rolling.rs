//! The head of a rolling aggregate: every row updates what is kept for its key and goes on with it.

use crate::Stream;
use crate::bindings::operators::CallError;
use crate::block::Block;
use crate::chain::{Chain, Decoded, Emit, Head, RowContext, Rows, Tail, Work, check_slots, take_given};
use crate::position;
use crate::process::Migration;
use crate::state::cell::{READ, WRITTEN};
use crate::state::kept::{read_values, write_values};
use crate::state::pages::Pages;
use crate::state::{Kept, Ttl};
use crate::value::{Owned, Record, Value};

/// An aggregate that a row updates.
pub trait RollingFunction: 'static {
    /// Rows in.
    type In: Record;
    /// Rows out, one for each row in.
    type Out: Record;
    /// What is kept for a key.
    type Kept: Kept;

    /// Takes a row.
    fn row<E: Emit<Self::Out>>(
        &mut self,
        kept: &mut Self::Kept,
        row: <Self::In as Value>::Of<'_>,
        cx: &mut RowContext,
        next: &mut E,
    );
}

/// The head of a chain that begins with a rolling aggregate.
pub struct Rolling<R: RollingFunction> {
    function: R,
    operator: u32,
    pages: Pages<R::Kept>,
    given: u64,
    /// Change of bytes outside the pages, by import and drop; rows change them little.
    heap_bytes: i64,
    /// Calls report what they touch: all of it.
    expires: bool,
    /// Entries of the call.
    entries: usize,
    migrations: Vec<Migration>,
}

impl<R: RollingFunction> std::fmt::Debug for Rolling<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rolling")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<R: RollingFunction> Rolling<R> {
    pub(crate) fn new(function: R, operator: u32) -> Self {
        Rolling {
            function,
            operator,
            pages: Pages::new(),
            given: 0,
            heap_bytes: 0,
            expires: false,
            entries: 0,
            migrations: Vec::new(),
        }
    }

    fn replace(&mut self, slot: u32, kept: R::Kept) {
        if let Some(place) = self.pages.get_mut(slot) {
            self.heap_bytes += kept.heap_bytes() as i64 - place.heap_bytes() as i64;
            *place = kept;
        }
    }
}

impl<R: RollingFunction> Stream<Rolling<R>> {
    /// Gives what the aggregate keeps for a key a time to live: the aggregate of a key of which no row came for so long
    /// begins anew. See [`Ttl`].
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn totals(sales: Stream<Rows<Sale>>) {
    ///     sales
    ///         .key_by(Sale::FIELDS.shop)
    ///         .sum(Sale::FIELDS.cents)
    ///         .ttl(Ttl::after(Duration::from_secs(7 * 86_400)))
    ///         .uid("totals")
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    #[must_use]
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.declare_ttl(ttl);
        if let Some(rolling) = self.chain_mut() {
            rolling.expires = true;
        }
        self
    }

    /// Makes what is kept for a key from what an earlier version kept, where no rule converts it: see
    /// [`Setup::migrate`](crate::Setup::migrate).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// #[derive(Record, Clone)]
    /// struct OrderV1 { customer: String, euros: i64 }
    ///
    /// #[derive(Record, Clone)]
    /// struct Order { customer: String, cents: i64 }
    ///
    /// fn dearest(orders: Stream<Rows<Order>>) {
    ///     orders
    ///         .key_by(Order::FIELDS.customer)
    ///         .reduce(|most, order| if order.cents > most.cents { *most = order })
    ///         .migrate(|old: OrderV1| Order { customer: old.customer, cents: old.euros * 100 })
    ///         .uid("dearest")
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    #[must_use]
    pub fn migrate<Old: Owned>(mut self, migrate: impl Fn(Old) -> <R::Kept as Kept>::Stored + 'static) -> Self {
        let migration = Migration::by(migrate);
        self.declare_migration(Ok(migration.fields.clone()));
        if let Some(rolling) = self.chain_mut() {
            rolling.migrations.push(migration);
        }
        self
    }
}

impl<R: RollingFunction> Chain for Rolling<R> {
    type Out = R::Out;
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
    fn run<E: Tail<R::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        let &Work::Rows { block, slots, .. } = work else {
            return Ok(());
        };
        check_slots(slots, block)?;
        let rows = Decoded::<R::In>::new(block, cx.time_in);
        self.pages.ensure(slots, R::Kept::create);
        self.pages.warm(slots);
        for (index, &slot) in slots.iter().enumerate() {
            position::set_entry(index as u32);
            position::enter(self.operator);
            rows.set_time(index, cx);
            let row = R::In::get(&rows.columns, index);
            self.function.row(self.pages.at(slot), row, cx, tail);
        }
        self.given += rows.count as u64;
        self.entries = rows.count;
        Ok(())
    }

    fn head(&mut self) -> &mut dyn Head {
        self
    }

    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64 {
        take_given(&mut self.given, emitted)
    }
}

impl<R: RollingFunction> Head for Rolling<R> {
    fn export_state(&mut self, _state: u32, slots: &[u32]) -> Result<Block, CallError> {
        let stored = |&slot: &u32| self.pages.get(slot).and_then(R::Kept::to_stored);
        Ok(write_values(slots.iter().map(stored)))
    }

    fn import_state(&mut self, _state: u32, slots: &[u32], values: &Block) -> Result<(), CallError> {
        check_slots(slots, values)?;
        self.pages.ensure(slots, R::Kept::create);
        for (&slot, stored) in slots.iter().zip(read_values(values)) {
            self.replace(slot, R::Kept::from_stored(stored));
        }
        Ok(())
    }

    fn migrate_state(&mut self, state: u32, migration: u32, old: &Block) -> Result<Block, CallError> {
        Migration::run(&self.migrations, self.operator, (state, migration), old)
    }

    fn drop_state(&mut self, slots: &[u32]) {
        for &slot in slots {
            self.replace(slot, R::Kept::create());
        }
    }

    fn take_touched(&mut self, touched: &mut Vec<u8>, live_bytes: &mut Vec<i64>) {
        let entries = std::mem::take(&mut self.entries);
        if self.expires {
            touched.resize(entries, READ | WRITTEN);
        }
        let change = self.pages.take_grown_bytes() + std::mem::take(&mut self.heap_bytes);
        if change != 0 {
            live_bytes.push(change);
        }
    }
}
