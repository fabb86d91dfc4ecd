//! What the table looks like, whether rows fit into it, and how it is made.

use arrow_schema::{DataType, Schema, TimeUnit};
use millrace_core::{Error, Result};
use postgres::Client;

use super::server::{Server, quoted};
use super::settings::{Mode, Settings};

/// Types that columns are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SqlType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Json,
    Jsonb,
    Uuid,
}

/// The name of the table as statements have it, from how the user writes it: `facts`, `sales.facts`, `"Odd name"`.
pub(super) fn name(text: &str) -> Result<String> {
    Ok(parts(text)?.join("."))
}

/// The name of another table in the same schema.
pub(super) fn beside(text: &str, other: &str) -> Result<String> {
    let mut parts = parts(text)?;
    parts.pop();
    parts.push(quoted(other));
    Ok(parts.join("."))
}

/// Its parts, each quoted: the schema, if it is named, and the table.
fn parts(text: &str) -> Result<Vec<String>> {
    let refuse = || {
        let message = format!(
            "option `table` is `{text}`, not a name such as `facts`, `sales.facts` or `\"Odd name\"` in double quotes"
        );
        Error::user("CN0121", message)
    };
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(inside) => {
                let end = inside.find('"').ok_or_else(refuse)?;
                (inside[..end].to_owned(), &inside[end + 1..])
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let plain = |character: char| character == '_' || character == '$' || character.is_alphanumeric();
                if !rest[..end].chars().all(plain) || rest.starts_with(|first: char| first.is_ascii_digit()) {
                    return Err(refuse());
                }
                (rest[..end].to_lowercase(), &rest[end..])
            }
        };
        if part.is_empty() {
            return Err(refuse());
        }
        parts.push(quoted(&part));
        match after.strip_prefix('.') {
            Some(next) if parts.len() == 1 => rest = next,
            None if after.is_empty() => return Ok(parts),
            _ => return Err(refuse()),
        }
    }
}

impl SqlType {
    fn from_oid(oid: u32) -> Option<SqlType> {
        Some(match oid {
            16 => SqlType::Bool,
            17 => SqlType::Bytea,
            20 => SqlType::Int8,
            21 => SqlType::Int2,
            23 => SqlType::Int4,
            25 | 1042 | 1043 => SqlType::Text, // text, character, character varying
            114 => SqlType::Json,
            700 => SqlType::Float4,
            701 => SqlType::Float8,
            1082 => SqlType::Date,
            1083 => SqlType::Time,
            1114 => SqlType::Timestamp,
            1184 => SqlType::Timestamptz,
            1700 => SqlType::Numeric,
            2950 => SqlType::Uuid,
            3802 => SqlType::Jsonb,
            _ => return None,
        })
    }

    /// The types that hold every value of a column; the first is what `create` makes.
    fn fitting(data_type: &DataType) -> &'static [SqlType] {
        use SqlType::*;
        match data_type {
            DataType::Boolean => &[Bool],
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => &[Int2, Int4, Int8, Numeric],
            DataType::UInt16 | DataType::Int32 => &[Int4, Int8, Numeric],
            DataType::UInt32 | DataType::Int64 => &[Int8, Numeric],
            DataType::UInt64 => &[Numeric],
            DataType::Float32 => &[Float4, Float8],
            DataType::Float64 => &[Float8],
            DataType::Decimal128(_, 0..) => &[Numeric],
            DataType::Utf8 => &[Text, Json, Jsonb],
            DataType::Binary => &[Bytea],
            DataType::FixedSizeBinary(16) => &[Bytea, Uuid],
            DataType::FixedSizeBinary(_) => &[Bytea],
            DataType::Date32 => &[Date],
            DataType::Time64(TimeUnit::Microsecond) => &[Time],
            DataType::Timestamp(_, None) => &[Timestamp, Timestamptz],
            DataType::Timestamp(_, Some(_)) => &[Timestamptz, Timestamp],
            DataType::List(_) | DataType::Map(_, _) | DataType::Struct(_) => &[Jsonb, Json],
            _ => &[],
        }
    }

    fn name(self) -> &'static str {
        match self {
            SqlType::Bool => "boolean",
            SqlType::Int2 => "smallint",
            SqlType::Int4 => "integer",
            SqlType::Int8 => "bigint",
            SqlType::Float4 => "real",
            SqlType::Float8 => "double precision",
            SqlType::Numeric => "numeric",
            SqlType::Text => "text",
            SqlType::Bytea => "bytea",
            SqlType::Date => "date",
            SqlType::Time => "time",
            SqlType::Timestamp => "timestamp",
            SqlType::Timestamptz => "timestamptz",
            SqlType::Json => "json",
            SqlType::Jsonb => "jsonb",
            SqlType::Uuid => "uuid",
        }
    }
}

/// Refuses columns that no table could hold.
pub(super) fn check_schema(schema: &Schema) -> Result<()> {
    let unfit = |field: &&std::sync::Arc<arrow_schema::Field>| SqlType::fitting(field.data_type()).is_empty();
    match schema.fields().iter().find(unfit) {
        None => Ok(()),
        Some(field) => Err(Error::user(
            "CN0120",
            format!(
                "column `{}` is {}, which PostgreSQL does not have",
                field.name(),
                field.data_type()
            ),
        )),
    }
}

/// A column of the table.
pub(super) struct Column {
    pub(super) name: String,
    /// `None`: none that rows can be written as.
    pub(super) sql_type: Option<SqlType>,
    /// As people write it: `character varying(20)`.
    pub(super) type_name: String,
    /// Refuses rows that do not name it.
    required: bool,
    generated: bool,
}

/// Looks the table up and finds the types that the columns of `schema` are written as.
pub(super) fn describe(
    client: &mut Client,
    server: &Server,
    settings: &Settings,
    schema: &Schema,
) -> Result<Vec<SqlType>> {
    let (given, table) = (&settings.table, name(&settings.table)?);
    let columns = columns(client, server, &table)?;
    let misfit = |message: String| Err(Error::user("CN0122", format!("table `{given}` {message}")));
    if columns.is_empty() {
        return misfit("does not exist; make it, or set option `create` to `true`".to_owned());
    }
    let mut types = Vec::new();
    for field in schema.fields() {
        let Some(column) = columns.iter().find(|column| column.name == *field.name()) else {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let names = names.join("`, `");
            return misfit(format!("has no column `{}`; it has `{names}`", field.name()));
        };
        if column.generated {
            return misfit(format!(
                "computes column `{}` itself; leave it out of the rows",
                column.name
            ));
        }
        let fitting = SqlType::fitting(field.data_type());
        match column.sql_type.filter(|sql_type| fitting.contains(sql_type)) {
            Some(sql_type) => types.push(sql_type),
            None => {
                let fitting: Vec<&str> = fitting.iter().map(|sql_type| sql_type.name()).collect();
                return misfit(format!(
                    "has column `{}` of type {}; rows have {} there, which goes into {}",
                    column.name,
                    column.type_name,
                    field.data_type(),
                    fitting.join(" or ")
                ));
            }
        }
    }
    let missing = |column: &&Column| column.required && schema.field_with_name(&column.name).is_err();
    match columns.iter().find(missing) {
        None => Ok(types),
        Some(column) => misfit(format!(
            "has column `{}` that must not be null and has no default, and the rows do not have it",
            column.name
        )),
    }
}

/// None if there is no such table.
pub(super) fn columns(client: &mut Client, server: &Server, table: &str) -> Result<Vec<Column>> {
    const QUERY: &str = "
        SELECT a.attname::text, coalesce(nullif(t.typbasetype, 0), t.oid)::oid, format_type(a.atttypid, a.atttypmod),
            a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', a.attgenerated <> ''
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let rows = client
        .query(QUERY, &[&table])
        .map_err(|error| server.error(&format!("table {table} cannot be looked up"), &error))?;
    let column = |row: &postgres::Row| Column {
        name: row.get(0),
        sql_type: SqlType::from_oid(row.get(1)),
        type_name: row.get(2),
        required: row.get(3),
        generated: row.get(4),
    };
    Ok(rows.iter().map(column).collect())
}

/// Makes the table unless it is there.
pub(super) fn create(client: &mut Client, server: &Server, settings: &Settings, schema: &Schema) -> Result<()> {
    let table = name(&settings.table)?;
    let mut items = Vec::new();
    for field in schema.fields() {
        let sql_type = SqlType::fitting(field.data_type())[0];
        let precision = match field.data_type() {
            DataType::Decimal128(precision, scale) => format!("({precision}, {scale})"),
            DataType::UInt64 => "(20, 0)".to_owned(),
            _ => String::new(),
        };
        let null = if field.is_nullable() { "" } else { " NOT NULL" };
        items.push(format!("{} {}{precision}{null}", quoted(field.name()), sql_type.name()));
    }
    if let Mode::Upsert { key } = &settings.mode {
        items.push(format!("PRIMARY KEY ({})", list(key)));
    }
    let statement = format!("CREATE TABLE IF NOT EXISTS {table} ({})", items.join(", "));
    client
        .batch_execute(&statement)
        .map_err(|error| server.error(&format!("table `{}` cannot be made", settings.table), &error))
}

/// Names of columns in a statement.
pub(super) fn list<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name.as_ref())).collect();
    names.join(", ")
}

/// Names of a schema's columns.
pub(super) fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables() {
        let check = |text: &str, expect: &str| assert_eq!(name(text).unwrap(), expect);
        check("facts", "\"facts\"");
        check("Sales.Facts_2", "\"sales\".\"facts_2\"");
        check("\"Odd name\"", "\"Odd name\"");
        check("sales.\"a.b\"", "\"sales\".\"a.b\"");
        for wrong in [
            "", "a.", ".a", "a.b.c", "a b", "a;drop", "\"a", "\"\"", "1a", "\"a\"b", "<table>",
        ] {
            assert_eq!(name(wrong).unwrap_err().code(), "CN0121", "{wrong}");
        }
    }

    #[test]
    fn what_no_table_holds_is_refused() {
        let schema = Schema::new(vec![arrow_schema::Field::new("d", DataType::Decimal128(5, -2), false)]);
        assert_eq!(check_schema(&schema).unwrap_err().code(), "CN0120");
    }
}
