//! A table of a PostgreSQL server.

use std::marker::PhantomData;

use super::options::{Options, any_option, reject_option};
use super::{Description, KeyedTable, Reject, Sink, WholeTable};
use crate::bindings::dataflow as wit;
use crate::value::Record;

/// Writes to a table of a PostgreSQL server, or has rows looked up in one.
///
/// Columns go by name and must be of types that hold every value: `i64` goes into `bigint` or `numeric`, but not
/// into `integer`. Lists, maps and structs go into `jsonb` or `json`, text into `text`, `varchar` and `json`,
/// [`Timestamp`](crate::values::Timestamp) into `timestamptz`. Before the job starts, the table is looked up and compared.
///
/// Each row is there exactly once, if the job takes checkpoints: a subtask writes the rows of a checkpoint in one
/// transaction, which is prepared (`PREPARE TRANSACTION`) with the checkpoint and committed when it has completed.
/// Rows are seen then, not before. The server must be set up for that: set its `max_prepared_transactions` to at
/// least three for each subtask. A sink knows its transactions by the names of job and operator; do not run two jobs
/// of the same name against the same database, or tell them apart by [`id`](PostgresSink::id).
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Total { shop: i64, day: i64, cents: i64 }
///
/// fn keep(totals: Stream<Rows<Total>>) {
///     let url = "postgres://sales@db.example.org/sales";
///     totals.sink("totals", Postgres::to(url, "totals").upsert(["shop", "day"]));
/// }
/// ```
#[derive(Debug)]
pub struct Postgres;

impl Postgres {
    /// Writes to a table: `totals`, `sales.totals`, `"Odd name"`. The URL is `postgres://user:password@host/database`;
    /// as a parameter of the pipeline it need not be in its source.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@localhost/sales", "totals");
    /// ```
    pub fn to(url: impl Into<String>, table: impl Into<String>) -> PostgresSink {
        let mut options = Options::default();
        options.set("url", url.into());
        options.set("table", table.into());
        PostgresSink { options }
    }

    /// Has rows of a table or view looked up, in a [lookup join](crate::lookup): by key, or whole, which is then read in one
    /// statement, as the table is at one moment.
    ///
    /// Columns go by name; what the table has beyond the record's is not read. Values mean what they mean in JSON lines: times are
    /// read from `timestamp` and `timestamptz`, lists and structs from `json` and `jsonb`. If it is asked by key, the key columns
    /// should have an index.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Product { id: i64, cents: i64 }
    /// let products = Postgres::table::<Product>("postgres://shop@localhost/shop", "products");
    /// ```
    pub fn table<T: Record>(url: impl Into<String>, table: impl Into<String>) -> PostgresTable<T> {
        let mut options = Options::default();
        options.set("url", url.into());
        options.set("table", table.into());
        PostgresTable {
            options,
            on_reject: Reject::Fail,
            record: PhantomData,
        }
    }
}

/// The options that say how we get into a server.
macro_rules! access_options {
    ($example:literal) => {
        /// The password is in this file, not in the URL. Without it and [`password_env`](Self::password_env), it is looked
        /// for as `psql` does: in the URL, in the variable `PGPASSWORD`, in the file `~/.pgpass`.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = concat!("let table = ", $example, ".password_file(\"/run/secrets/sales\");")]
        /// ```
        pub fn password_file(self, path: impl Into<String>) -> Self {
            self.option("password.file", path.into())
        }

        /// The password is in this environment variable of `jobctl`, not in the URL.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = concat!("let table = ", $example, ".password_env(\"SALES_PASSWORD\");")]
        /// ```
        pub fn password_env(self, name: impl Into<String>) -> Self {
            self.option("password.env", name.into())
        }

        /// How much the connection is protected, as `sslmode` of `psql`: `disable`, `prefer` (without this), `require`,
        /// `verify-ca`, `verify-full`. The URL may have it as well: `?sslmode=verify-full&sslrootcert=ca.pem`.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = concat!("let table = ", $example, ".ssl_mode(\"verify-full\").ssl_root_certificate(\"ca.pem\");")]
        /// ```
        pub fn ssl_mode(self, mode: &str) -> Self {
            self.option("sslmode", mode)
        }

        /// The file of certificates (PEM) by which the server's is checked, or `system`: those that the machine trusts.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = concat!("let table = ", $example, ".ssl_root_certificate(\"system\");")]
        /// ```
        pub fn ssl_root_certificate(self, path: impl Into<String>) -> Self {
            self.option("sslrootcert", path.into())
        }

        /// The files of a certificate and of its key (PEM), for servers that ask for one.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = concat!("let table = ", $example, ".ssl_certificate(\"sales.crt\", \"sales.key\");")]
        /// ```
        pub fn ssl_certificate(self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
            self.option("sslcert", certificate.into())
                .option("sslkey", key.into())
        }
    };
}

/// A table in which rows are looked up: made by [`Postgres`].
#[derive(Debug)]
pub struct PostgresTable<T> {
    options: Options,
    on_reject: Reject,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> PostgresTable<T> {
    /// Finds only rows for which this condition of SQL is true.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Product { id: i64, cents: i64 }
    /// let products = Postgres::table::<Product>("postgres://shop@localhost/shop", "products").filter("NOT retired");
    /// ```
    pub fn filter(self, condition: &str) -> Self {
        self.option("where", condition)
    }

    access_options!("Postgres::table::<Row>(\"postgres://sales@localhost/sales\", \"notes\")");
    reject_option!("Postgres::table::<Row>(\"postgres://localhost/sales\", \"notes\")");
    any_option!(
        "let rows = Postgres::table::<Row>(\"postgres://localhost/sales\", \"notes\").option(\"where\", \"TRUE\");"
    );
}

impl<T: Record> KeyedTable for PostgresTable<T> {
    type Record = T;

    fn into_table(self) -> Description {
        Description {
            kind: "postgres".to_owned(),
            options: self.options.into_list(),
            on_reject: self.on_reject,
        }
    }
}

impl<T: Record> WholeTable for PostgresTable<T> {
    type Record = T;

    fn into_whole_table(self) -> Description {
        self.into_table()
    }
}

/// Writes to a table: made by [`Postgres`].
#[derive(Debug)]
pub struct PostgresSink {
    options: Options,
}

impl PostgresSink {
    /// Rows replace those with the same values in these columns, over which the table must have a primary key or a
    /// unique index. Writing a row again changes nothing, so this needs no prepared transactions, and rows are seen
    /// soon after they come; after a restart, older values may show for a moment. Rows with the same key must come
    /// from the same subtask, as they do behind `key_by`, or their order is open.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@localhost/sales", "totals").upsert(["shop", "day"]);
    /// ```
    pub fn upsert<C: AsRef<str>>(self, key: impl IntoIterator<Item = C>) -> Self {
        let key: Vec<String> = key.into_iter().map(|column| column.as_ref().to_owned()).collect();
        self.option("mode", "upsert").option("key", key.join(","))
    }

    /// Makes the table if it is not there. Without this, it must be.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@localhost/sales", "totals").create(true);
    /// ```
    pub fn create(self, create: bool) -> Self {
        self.option("create", create)
    }

    /// Sends that many rows at a time. Without this, 20,000.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@localhost/sales", "totals").batch_rows(1_000);
    /// ```
    pub fn batch_rows(self, rows: u64) -> Self {
        self.option("batch.rows", rows)
    }

    access_options!("Postgres::to(\"postgres://sales@db.example.org/sales\", \"totals\")");

    /// Tells this job's transactions from those of another of the same name.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@localhost/sales", "totals").id("staging");
    /// ```
    pub fn id(self, id: &str) -> Self {
        self.option("id", id)
    }

    any_option!("let totals = Postgres::to(\"postgres://localhost/sales\", \"totals\").option(\"create\", true);");
}

impl Sink for PostgresSink {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: "postgres".to_owned(),
            options: self.options.into_list(),
        }
    }
}
