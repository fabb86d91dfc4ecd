//! Tables that rows are looked up in, and what of them the host has.

use std::marker::PhantomData;
use std::time::Duration;

use crate::bindings::dataflow as wit;
use crate::connect::{Description, KeyedTable, WholeTable};
use crate::keyed::KeySelector;
use crate::time::millis;
use crate::value::Record;

/// Bytes that a table may take unless something else is said.
const MEMORY_MAX: u64 = 256 << 20;

/// The whole table is in memory.
#[derive(Debug, Clone, Copy)]
pub struct Full(());

/// The table is asked for keys, and answers are remembered.
#[derive(Debug, Clone, Copy)]
pub struct Cached(());

/// The table is asked for keys.
#[derive(Debug, Clone, Copy)]
pub struct Uncached(());

/// A table that rows of type `T` are found in by a key `K`: see [the module](super).
#[derive(Debug)]
pub struct LookupTable<T, K, A> {
    description: Description,
    columns: Vec<u32>,
    is_computed: bool,
    access: wit::TableAccess,
    types: PhantomData<fn(K) -> (T, A)>,
}

impl<T: Record, K, A> LookupTable<T, K, A> {
    fn new<S: KeySelector<T, Key = K>>(description: Description, key: &S, access: wit::TableAccess) -> Self {
        LookupTable {
            description,
            columns: key.columns(),
            is_computed: S::COMPUTED,
            access,
            types: PhantomData,
        }
    }

    /// Whether the key is something that the table does not have.
    pub(crate) fn is_computed(&self) -> bool {
        self.is_computed
    }

    /// As the contract has it, with the numbers of the schemas of the table and of rows that go out.
    pub(crate) fn into_contract(self, table: u32, schema: u32, outer: bool) -> wit::Lookup {
        let Description {
            kind,
            options,
            on_reject,
        } = self.description;
        wit::Lookup {
            connector: wit::Connector { kind, options },
            table,
            key: self.columns,
            access: self.access,
            outer,
            on_reject: on_reject.into_contract(),
            schema,
        }
    }
}

impl<T: Record, K> LookupTable<T, K, Full> {
    /// A table that is read whole, from any source that ends or a table of PostgreSQL. The key is a field of its rows, or a
    /// tuple of fields.
    ///
    /// Rows that cannot be read are refused or skipped, as the source's `on_reject` says; there is no dead letter for them.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Product { id: i64, region: String, cents: i64 }
    /// let products = LookupTable::full(Files::parquet::<Product>("products/"), Product::FIELDS.id);
    /// let regional = LookupTable::full(
    ///     Files::csv::<Product>("products.csv").on_reject(Reject::Skip),
    ///     (Product::FIELDS.id, Product::FIELDS.region),
    /// );
    /// ```
    pub fn full<S, F>(source: S, key: F) -> Self
    where
        S: WholeTable<Record = T>,
        F: KeySelector<T, Key = K>,
    {
        let access = wit::TableAccess::Full(wit::FullTable {
            refresh_ms: None,
            bytes_max: MEMORY_MAX,
        });
        LookupTable::new(source.into_whole_table(), &key, access)
    }

    /// How often the table is read anew, while rows go on; never unless it is said. Files that have not changed are not read:
    /// it costs little to look often. Replace a file by renaming another, so that nobody reads half of it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Product { id: i64, cents: i64 }
    /// let products = LookupTable::full(Files::csv::<Product>("products.csv"), Product::FIELDS.id)
    ///     .refresh(Duration::from_secs(10));
    /// ```
    #[must_use]
    pub fn refresh(self, every: Duration) -> Self {
        self.change(|full| full.refresh_ms = Some(millis(every)))
    }

    /// Bytes of memory that the table may take in the host, 256 MiB unless it is said. While it is read anew there are two of
    /// it. A table that takes more is an error; of one that has grown, the last that did not stays.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Product { id: i64, cents: i64 }
    /// let products = LookupTable::full(Files::csv::<Product>("products.csv"), Product::FIELDS.id).memory_max(1 << 30);
    /// ```
    #[must_use]
    pub fn memory_max(self, bytes: u64) -> Self {
        self.change(|full| full.bytes_max = bytes)
    }

    fn change(mut self, change: impl FnOnce(&mut wit::FullTable)) -> Self {
        if let wit::TableAccess::Full(full) = &mut self.access {
            change(full);
        }
        self
    }
}

impl<T: Record, K> LookupTable<T, K, Cached> {
    /// A table of a database that is asked for keys; each subtask remembers the rows of up to `rows_max` of them. Keys that it
    /// asks for often stay longest; one that the table has no row of is remembered as well, and counts as one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Product { id: i64, cents: i64 }
    /// let products = LookupTable::cached(
    ///     Postgres::table::<Product>("postgres://shop@db.example.org/shop", "products"),
    ///     Product::FIELDS.id,
    ///     100_000,
    /// )
    /// .expire_after(Duration::from_secs(300));
    /// ```
    pub fn cached<S, F>(table: S, key: F, rows_max: u64) -> Self
    where
        S: KeyedTable<Record = T>,
        F: KeySelector<T, Key = K>,
    {
        let access = wit::TableAccess::Cached(wit::CachedTable {
            rows_max,
            expire_after_ms: None,
            remembers_missing: true,
        });
        LookupTable::new(table.into_table(), &key, access)
    }

    /// How long after the table was asked for a key it is asked again; as soon as it has been forgotten, unless it is said.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Product { id: i64, cents: i64 }
    /// let products = LookupTable::cached(Sqlite::table::<Product>("shop.db", "products"), Product::FIELDS.id, 10_000)
    ///     .expire_after(Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn expire_after(self, time: Duration) -> Self {
        self.change(|cached| cached.expire_after_ms = Some(millis(time)))
    }

    /// Whether it is remembered that the table has no row of a key; it is, unless it is said. Where rows come before what they
    /// refer to, it should not be.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Product { id: i64, cents: i64 }
    /// let products = LookupTable::cached(Sqlite::table::<Product>("shop.db", "products"), Product::FIELDS.id, 10_000)
    ///     .remember_missing(false);
    /// ```
    #[must_use]
    pub fn remember_missing(self, remember: bool) -> Self {
        self.change(|cached| cached.remembers_missing = remember)
    }

    fn change(mut self, change: impl FnOnce(&mut wit::CachedTable)) -> Self {
        if let wit::TableAccess::Cached(cached) = &mut self.access {
            change(cached);
        }
        self
    }
}

impl<T: Record, K> LookupTable<T, K, Uncached> {
    /// A table of a database that is asked for the keys of each block, each once, and of which nothing is remembered.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Product { id: i64, cents: i64 }
    /// let products = LookupTable::uncached(Sqlite::table::<Product>("shop.db", "products"), Product::FIELDS.id);
    /// ```
    pub fn uncached<S, F>(table: S, key: F) -> Self
    where
        S: KeyedTable<Record = T>,
        F: KeySelector<T, Key = K>,
    {
        LookupTable::new(table.into_table(), &key, wit::TableAccess::Uncached)
    }
}
