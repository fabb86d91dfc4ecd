//! What is read of a table, and how: rows come as JSON, which is read as JSON lines are, so that values of tables and of files
//! mean the same.

use arrow_schema::{DataType, SchemaRef};
use millrace_core::connector::{Options, Rows};
use millrace_core::{Error, Result};
use postgres::{Client, Row};

use super::server::{Server, quoted};
use super::settings::Access;
use super::table::{self, Column, SqlType};
use crate::format::{Format, ndjson_rows};

/// By this name the server's people know who asks.
const CONNECTION_NAME: &str = "millrace lookup";

/// A table and what of it is read.
pub(super) struct Settings {
    access: Access,
    pub(super) table: String,
    /// Condition for rows to be there.
    filter: Option<String>,
    pub(super) schema: SchemaRef,
}

impl Settings {
    pub(super) fn take(mut options: Options, schema: SchemaRef) -> Result<Self> {
        let access = Access::take(&mut options)?;
        let table = options.required("table")?;
        let filter = options.text("where");
        options.finish()?;
        Format::Ndjson.check_schema(&schema)?;
        Ok(Settings {
            access,
            table,
            filter,
            schema,
        })
    }

    pub(super) fn connect(&self) -> Result<(Server, Client)> {
        let server = Server::parse(&self.access)?;
        let client = server.connect(CONNECTION_NAME)?;
        Ok((server, client))
    }

    /// What the table has, which must exist.
    pub(super) fn columns(&self, server: &Server, client: &mut Client) -> Result<Vec<Column>> {
        let columns = table::columns(client, server, &table::name(&self.table)?)?;
        match columns.is_empty() {
            true => Err(self.misfit("does not exist")),
            false => Ok(columns),
        }
    }

    /// A statement of SQL about it has failed.
    pub(super) fn failed(&self, server: &Server, error: &postgres::Error) -> Error {
        server.error(&format!("table `{}` cannot be asked", self.table), error)
    }

    pub(super) fn misfit(&self, message: &str) -> Error {
        Error::user("CN0122", format!("table `{}` {message}", self.table))
    }

    /// The statement that asks for all rows of which this is true.
    pub(super) fn statement(&self, columns: &[Column], condition: &str) -> Result<String> {
        let mut wanted = Vec::new();
        for field in self.schema.fields() {
            match columns.iter().find(|column| column.name == *field.name()) {
                Some(column) => wanted.push(read_as(column, field.data_type())),
                None if field.is_nullable() => {}
                None => {
                    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                    let names = names.join("`, `");
                    return Err(self.misfit(&format!("has no column `{}`; it has `{names}`", field.name())));
                }
            }
        }
        let (wanted, table) = (wanted.join(", "), table::name(&self.table)?);
        let filter = self.filter.as_deref().unwrap_or("TRUE");
        Ok(format!(
            "SELECT row_to_json(found)::text FROM (SELECT {wanted} FROM {table} WHERE {condition} AND ({filter})) found"
        ))
    }

    /// The rows that the statement has answered with, and those that are none; sorted, if their order says nothing.
    pub(super) fn rows(&self, found: &[Row], sorted: bool) -> Result<Rows> {
        let mut lines: Vec<&str> = found.iter().map(|row| row.get(0)).collect();
        if sorted {
            lines.sort_unstable();
        }
        // A line end within a row is between members, in a column of type json: within text it is escaped.
        let text: String = lines.iter().map(|line| line.replace('\n', " ") + "\n").collect();
        let bytes = text.len() as u64;
        let (rows, mut rejected) = ndjson_rows(text.into_bytes(), lines.len(), &self.schema)?;
        for row in &mut rejected {
            row.place = format!("table {}", self.table);
        }
        Ok(Rows { rows, rejected, bytes })
    }
}

/// A column as JSON lines have it.
fn read_as(column: &Column, data_type: &DataType) -> String {
    let name = quoted(&column.name);
    match (column.sql_type, data_type) {
        (Some(SqlType::Bytea), _) => format!("encode({name}, 'hex') AS {name}"),
        (Some(SqlType::Uuid), DataType::FixedSizeBinary(_)) => format!("replace({name}::text, '-', '') AS {name}"),
        (_, DataType::Utf8) => format!("{name}::text AS {name}"),
        (_, _) => name,
    }
}
