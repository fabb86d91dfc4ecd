//! Options of the `postgres` connector. Nothing is asked of the server here.

use arrow_schema::Schema;
use millrace_core::connector::Options;
use millrace_core::{Error, Result};

use super::address::Address;
use super::tls::Tls;
use crate::password::Password;

/// Rows that are sent at a time.
const BATCH_ROWS_DEFAULT: usize = 20_000;

/// Rows are sent earlier if they take this much room.
pub(super) const BATCH_BYTES_MAX: usize = 8 << 20;

/// How rows get into the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// In a transaction that is prepared and committed with the checkpoint.
    ExactlyOnce,
    /// Over the row with the same values in these columns.
    Upsert { key: Vec<String> },
}

/// Where the server is, and how we get in.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Without the settings of TLS.
    pub(super) url: String,
    pub(super) tls: Tls,
    pub(super) password: Password,
}

impl Access {
    pub(super) fn take(options: &mut Options) -> Result<Self> {
        let Address { rest: url, tls } = Address::parse(&options.required("url")?)?;
        let tls = Tls::take(options, tls)?;
        let password = Password::take(options)?;
        Ok(Access { url, tls, password })
    }
}

/// What the pipeline asks for.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) access: Access,
    pub(super) table: String,
    pub(super) mode: Mode,
    pub(super) create: bool,
    pub(super) batch_rows: usize,
    /// Tells jobs of the same name apart.
    pub(super) id: String,
}

impl Settings {
    pub(super) fn take(mut options: Options, schema: &Schema) -> Result<Self> {
        let access = Access::take(&mut options)?;
        let table = options.required("table")?;
        let mode = options.text("mode");
        let key = options.text("key");
        let create = options.parsed("create", "`true` or `false`")?.unwrap_or(false);
        let batch_rows = options
            .parsed("batch.rows", "a number of rows")?
            .unwrap_or(BATCH_ROWS_DEFAULT);
        let id = options.text("id").unwrap_or_default();
        options.finish()?;
        if batch_rows == 0 {
            return Err(refused("option `batch.rows` must be above 0"));
        }
        if schema.fields().is_empty() {
            return Err(refused("rows without columns cannot be written to a table"));
        }
        Ok(Settings {
            access,
            table,
            mode: mode_of(mode.as_deref(), key.as_deref(), schema)?,
            create,
            batch_rows,
            id,
        })
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::user("CN0120", message)
}

fn mode_of(mode: Option<&str>, key: Option<&str>, schema: &Schema) -> Result<Mode> {
    match (mode.unwrap_or("exactly-once"), key) {
        ("exactly-once", None) => Ok(Mode::ExactlyOnce),
        ("exactly-once", Some(_)) => Err(refused("option `key` is for mode `upsert`")),
        ("upsert", None) => Err(refused(
            "mode `upsert` needs option `key`: the columns that identify a row",
        )),
        ("upsert", Some(key)) => {
            let key: Vec<String> = key.split(',').map(|column| column.trim().to_owned()).collect();
            for (index, column) in key.iter().enumerate() {
                let Ok(field) = schema.field_with_name(column) else {
                    return Err(refused(format!("key column `{column}` is not among the rows' columns")));
                };
                if field.is_nullable() {
                    return Err(refused(format!(
                        "key column `{column}` may be null, and null is never the same as null"
                    )));
                }
                if key[..index].contains(column) {
                    return Err(refused(format!("key column `{column}` is named twice")));
                }
            }
            Ok(Mode::Upsert { key })
        }
        (other, _) => Err(refused(format!(
            "option `mode` is `{other}`, not `exactly-once` or `upsert`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;
    use crate::testing::options;

    fn take(more: &[(&str, &str)]) -> Result<Settings> {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("note", DataType::Utf8, true),
        ]);
        let mut pairs = vec![("url", "postgres://localhost/x"), ("table", "t")];
        pairs.extend(more);
        Settings::take(options(&pairs), &schema)
    }

    #[test]
    fn modes() {
        let settings = take(&[]).unwrap();
        assert_eq!((settings.mode, settings.create), (Mode::ExactlyOnce, false));
        let upsert = take(&[("mode", "upsert"), ("key", "id")]).unwrap();
        assert_eq!(upsert.mode, Mode::Upsert { key: vec!["id".into()] });
    }

    #[test]
    fn what_does_not_go_together() {
        let check = |more: &[(&str, &str)], part: &str| {
            let error = take(more).unwrap_err();
            assert_eq!(error.code(), "CN0120", "{error}");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(&[("key", "id")], "`key` is for mode `upsert`");
        check(&[("mode", "upsert")], "needs option `key`");
        check(&[("mode", "append")], "`append`");
        check(&[("mode", "upsert"), ("key", "id,x")], "`x`");
        check(&[("mode", "upsert"), ("key", "id, note")], "`note` may be null");
        check(&[("mode", "upsert"), ("key", "id,id")], "twice");
        check(&[("batch.rows", "0")], "`batch.rows`");
    }
}
