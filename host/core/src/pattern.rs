//! Patterns of events, as the host has them: what a pattern means is said by `millrace_pattern`, which knows no columns; here is
//! what is stored of a key, as columns.
//!
//! That is one value, in which whoever reads a savepoint finds the rows that wait and the matches that have begun.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use millrace_pattern::{PatternDecl, Program};

use crate::graph::{StateDecl, StateKind};
use crate::schema::Hints;
use crate::{Error, Result};

/// Makes an automaton of a declared pattern.
///
/// # Errors
/// GR0018, with a message for the author of a pattern that means nothing.
pub fn compile(pattern: &PatternDecl) -> Result<Program> {
    Program::compile(pattern).map_err(|refused| Error::user("GR0018", refused.to_string()))
}

/// Name of the state of a pattern.
pub const STATE_NAME: &str = "pattern";

/// Members of a stored key.
#[derive(Debug, Clone)]
pub struct StoredFields {
    /// All of them.
    pub key: Fields,
    /// A row with its time. Rows that were matched come first, in that order, then those that wait.
    pub row: FieldRef,
    /// A row as a stage of a match, and the node of the row before; -1: there is none. Parents come first.
    pub node: FieldRef,
    /// A match that has begun: where it has come to, what it waits on, and its last node.
    pub partial: FieldRef,
    /// A match that waits for earlier ones, by its last node.
    pub completed: FieldRef,
}

fn list(item: &FieldRef) -> DataType {
    DataType::List(item.clone())
}

fn item(members: Vec<Field>) -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(Fields::from(members)), false))
}

impl StoredFields {
    /// For rows of this schema.
    pub fn new(rows: &Schema) -> Self {
        let int = |name: &str| Field::new(name, DataType::Int32, false);
        let long = |name: &str| Field::new(name, DataType::Int64, false);
        let row = Field::new("row", DataType::Struct(rows.fields().clone()), false);
        let row = item(vec![long("time"), row]);
        let node = item(vec![int("row"), int("stage"), int("parent")]);
        let partial = item(vec![int("position"), long("edges"), int("node")]);
        let completed = item(vec![int("node"), long("time")]);
        let key = Fields::from(vec![
            long("program"),
            int("waiting"),
            Field::new("rows", list(&row), false),
            Field::new("nodes", list(&node), false),
            Field::new("partials", list(&partial), false),
            Field::new("completed", list(&completed), false),
        ]);
        StoredFields {
            key,
            row,
            node,
            partial,
            completed,
        }
    }
}

/// The state of a pattern over rows of this schema, whose fields say this of their earlier versions.
pub fn state_decl(rows: &SchemaRef, row_hints: Vec<Hints>) -> StateDecl {
    let fields = StoredFields::new(rows);
    let value = Field::new(STATE_NAME, DataType::Struct(fields.key), true);
    StateDecl {
        name: STATE_NAME.to_owned(),
        aliases: Vec::new(),
        kind: StateKind::Value,
        schema: Arc::new(Schema::new(vec![value])),
        hints: hints(row_hints),
        migrations: Vec::new(),
        ttl: None,
    }
}

/// Of the members of a stored key only the columns of its rows have earlier versions.
fn hints(row_hints: Vec<Hints>) -> Hints {
    let plain = Hints::default;
    let with = |children| Hints {
        children,
        ..Hints::default()
    };
    let item = with(vec![plain(), with(row_hints)]);
    with(vec![plain(), plain(), with(vec![item]), plain(), plain(), plain()])
}
