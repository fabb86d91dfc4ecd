//! A table of a PostgreSQL server.

use super::Sink;
use super::options::{Options, any_option};
use crate::bindings::dataflow as wit;

/// Writes to a table of a PostgreSQL server.
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

    /// The password is in this file, not in the URL. Without it and [`password_env`](Self::password_env), it is looked
    /// for as `psql` does: in the URL, in the variable `PGPASSWORD`, in the file `~/.pgpass`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@localhost/sales", "totals").password_file("/run/secrets/sales");
    /// ```
    pub fn password_file(self, path: impl Into<String>) -> Self {
        self.option("password.file", path.into())
    }

    /// The password is in this environment variable of `jobctl`, not in the URL.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@localhost/sales", "totals").password_env("SALES_PASSWORD");
    /// ```
    pub fn password_env(self, name: impl Into<String>) -> Self {
        self.option("password.env", name.into())
    }

    /// How much the connection is protected, as `sslmode` of `psql`: `disable`, `prefer` (without this), `require`,
    /// `verify-ca`, `verify-full`. The URL may have it as well: `?sslmode=verify-full&sslrootcert=ca.pem`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@db.example.org/sales", "totals")
    ///     .ssl_mode("verify-full")
    ///     .ssl_root_certificate("ca.pem");
    /// ```
    pub fn ssl_mode(self, mode: &str) -> Self {
        self.option("sslmode", mode)
    }

    /// The file of certificates (PEM) by which the server's is checked, or `system`: those that the machine trusts.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@db.example.org/sales", "totals").ssl_root_certificate("system");
    /// ```
    pub fn ssl_root_certificate(self, path: impl Into<String>) -> Self {
        self.option("sslrootcert", path.into())
    }

    /// The files of a certificate and of its key (PEM), for servers that ask for one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Postgres::to("postgres://sales@db.example.org/sales", "totals")
    ///     .ssl_certificate("sales.crt", "sales.key");
    /// ```
    pub fn ssl_certificate(self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.option("sslcert", certificate.into()).option("sslkey", key.into())
    }

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
