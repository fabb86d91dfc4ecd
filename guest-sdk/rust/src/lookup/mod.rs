//! Lookup joins: rows of a stream with the rows of a table that have their key.
//!
//! Products, customers, rates: what rows refer to is often in a file or a database, and changes rarely. A pipeline names the
//! table ([`LookupTable`]) and says which key a row has; the host has the table, or asks it:
//!
//! ```
//! use millrace::prelude::*;
//!
//! #[derive(Record, Clone)]
//! struct Order { product: i64, pieces: i64 }
//!
//! #[derive(Record)]
//! struct Product { id: i64, name: String, cents: i64 }
//!
//! #[derive(Record)]
//! struct Sale { name: String, cents: i64 }
//!
//! fn sales(orders: Stream<Rows<Order>>) {
//!     let products = LookupTable::full(Files::csv::<Product>("products.csv"), Product::FIELDS.id);
//!     orders
//!         .lookup_join(
//!             products.refresh(Duration::from_secs(60)),
//!             |order| order.product,
//!             |order, product| Sale { name: product.name, cents: order.pieces * product.cents },
//!         )
//!         .sink("sales", Stdout::ndjson());
//! }
//! ```
//!
//! # Which table
//!
//! - [`LookupTable::full`]: any source that ends (files of all formats, a table of SQLite), or a table of PostgreSQL, is read into the host's
//!   memory before the first row, once for all subtasks. That is fastest, and fits what fits into memory.
//! - [`LookupTable::cached`]: a table of a database is asked for the keys of each block at once, and answers are
//!   remembered by each subtask: so many rows, for so long.
//! - [`LookupTable::uncached`]: the same, and nothing is remembered.
//!
//! # Which rows of it
//!
//! All that have the key, each once; a key that is null belongs to none. Equal is what is equal in Rust, so that `"a"` is not
//! `"A"`, whatever a database thinks of it.
//!
//! Rows meet the table as it is when they pass: this is a join by *processing time*, as Flink's `FOR SYSTEM_TIME AS OF
//! proc_time`. A row that comes again after a failure may find what has changed meanwhile, and no checkpoint
//! holds anything of the table; where results are to be the same whenever they are computed, join with a stream of versions
//! ([`temporal_join`](crate::KeyedStream::temporal_join)).
//!
//! # When a table cannot be read
//!
//! The job does not begin without it. A refresh that fails is a warning and a metric, and rows go on with what was read before; it is
//! tried again after as long again. A database that does not answer is asked once more, on another connection; then the
//! job fails, and its restart strategy decides.

mod table;

pub use table::{Cached, Full, LookupTable, Uncached};
