//! What a keyed operator's state looks like: as rows of layers, and as tables of a savepoint.
//!
//! ```text
//!   layers     $group | $deleted | $key {…} | one column per state | $expires {…} | $event_timers | $processing_timers
//!   savepoint  a table per state and one of timers, each: key_group | the key's fields | …
//!
//! Large states are tables of their own in both; see `collections`.
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use millrace_core::checkpoint::columns;
use millrace_core::checkpoint::{DELETED_COLUMN, GROUP_COLUMN};
use millrace_core::collections::CollectionSchema;
use millrace_core::graph::TimeToLive;

use super::collections;

/// Columns of the rows of a layer before those that the operator adds.
pub(crate) const ROW_COLUMNS: usize = 3;

/// Name of the first column of every table of a savepoint.
pub const KEY_GROUP: &str = "key_group";

/// Name of the column of a state's table that says when it expires.
pub(crate) const EXPIRES_MS: &str = "expires_ms";

/// Values of the column `kind` of timers.
pub const TIMER_KINDS: [&str; 2] = ["event-time", "processing-time"];

/// The state of a keyed operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Fields of the key.
    pub key: Fields,
    /// What is kept for a key.
    pub kind: LayoutKind,
    /// Which states have a time to live: their positions, ascending.
    pub expiring: Vec<usize>,
    /// Large maps and lists beside that.
    pub large: Vec<LargeState>,
}

/// A large map or list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeState {
    /// Field of the state.
    pub field: FieldRef,
    /// How long its entries live, if they expire.
    pub ttl: Option<TimeToLive>,
}

/// What is kept for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutKind {
    /// States, each by its name, and timers.
    Keyed(Vec<FieldRef>),
    /// An accumulator per slice of time.
    Windows(FieldRef),
    /// An accumulator per session.
    Sessions(FieldRef),
}

/// One of the tables that a layout is stored in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableSpec {
    /// Names its folder.
    pub(crate) name: String,
    /// The state that it holds; `None`: timers.
    pub(crate) value: Option<FieldRef>,
    /// What its rows are, if it is a large state.
    pub(crate) large: Option<CollectionSchema>,
    /// Columns of its files.
    pub(crate) schema: SchemaRef,
}

impl Layout {
    /// The layout of the rows of a layer; `None` if they are of no known kind.
    pub fn of_rows(schema: &Schema) -> Option<Layout> {
        let fields = schema.fields();
        let [group, deleted, key, more @ ..] = &fields[..] else {
            return None;
        };
        let DataType::Struct(key_fields) = key.data_type() else {
            return None;
        };
        if [group.name(), deleted.name(), key.name()] != [GROUP_COLUMN, DELETED_COLUMN, columns::KEY] {
            return None;
        }
        let names: Vec<&str> = more.iter().map(|field| field.name().as_str()).collect();
        let mut expiring = Vec::new();
        let kind = match (names.as_slice(), more) {
            ([columns::SESSIONS], [sessions]) => LayoutKind::Sessions(session_accumulator(sessions.data_type())?),
            (
                [.., columns::EXPIRES, columns::EVENT_TIMERS, columns::PROCESSING_TIMERS],
                [states @ .., expires, _, _],
            ) => {
                expiring = expiring_states(states, expires.data_type())?;
                LayoutKind::Keyed(states.to_vec())
            }
            ([.., columns::EVENT_TIMERS, columns::PROCESSING_TIMERS], [states @ .., _, _]) => {
                LayoutKind::Keyed(states.to_vec())
            }
            ([columns::SLICE, _], [_, accumulator]) => LayoutKind::Windows(accumulator.clone()),
            _ => return None,
        };
        let layout = Layout {
            key: key_fields.clone(),
            kind,
            expiring,
            large: Vec::new(),
        };
        (layout.rows_schema().fields() == fields).then_some(layout)
    }

    /// Schema of rows of a layer.
    pub fn rows_schema(&self) -> SchemaRef {
        let mut fields: Vec<FieldRef> = vec![
            Arc::new(Field::new(GROUP_COLUMN, DataType::UInt32, false)),
            Arc::new(Field::new(DELETED_COLUMN, DataType::Boolean, false)),
            Arc::new(Field::new(columns::KEY, DataType::Struct(self.key.clone()), false)),
        ];
        match &self.kind {
            LayoutKind::Keyed(states) => {
                fields.extend(states.iter().cloned());
                fields.extend(self.expires_field());
                for name in [columns::EVENT_TIMERS, columns::PROCESSING_TIMERS] {
                    fields.push(Arc::new(Field::new(name, DataType::List(times_field()), true)));
                }
            }
            LayoutKind::Windows(accumulator) => {
                fields.push(Arc::new(Field::new(columns::SLICE, DataType::Int64, true)));
                fields.push(accumulator.clone());
            }
            LayoutKind::Sessions(accumulator) => {
                let list = DataType::List(session_item(accumulator));
                fields.push(Arc::new(Field::new(columns::SESSIONS, list, true)));
            }
        }
        Arc::new(Schema::new(fields))
    }

    /// The column that says when states expire, if some do.
    pub(crate) fn expires_field(&self) -> Option<FieldRef> {
        let times = expires_fields(self.states(), &self.expiring);
        let column = || Field::new(columns::EXPIRES, DataType::Struct(times), true);
        (!self.expiring.is_empty()).then(|| Arc::new(column()))
    }

    /// Place of a state among those that expire.
    pub(crate) fn place_of_expiry(&self, state: usize) -> Option<usize> {
        self.expiring.binary_search(&state).ok()
    }

    /// Its states with their names, without large ones.
    pub fn states(&self) -> &[FieldRef] {
        match &self.kind {
            LayoutKind::Keyed(states) => states,
            LayoutKind::Windows(accumulator) | LayoutKind::Sessions(accumulator) => std::slice::from_ref(accumulator),
        }
    }

    /// The tables that it is stored in: the states in order, then timers, then large states.
    pub(crate) fn tables(&self) -> Vec<TableSpec> {
        let integer = |name| Arc::new(Field::new(name, DataType::Int64, false));
        let table = |name: String, value: Option<&FieldRef>, more: Vec<FieldRef>| TableSpec {
            name,
            value: value.cloned(),
            large: None,
            schema: self.table_schema(more),
        };
        let large = self.large.iter().filter_map(|state| {
            let large = CollectionSchema {
                ttl: state.ttl,
                ..CollectionSchema::of(&state.field)?
            };
            Some(TableSpec {
                name: format!("state-{}", state.field.name()),
                value: Some(state.field.clone()),
                schema: self.table_schema(collections::table_fields(&large)),
                large: Some(large),
            })
        });
        let mut tables: Vec<TableSpec> = match &self.kind {
            LayoutKind::Keyed(states) => {
                let state = |(at, state): (usize, &FieldRef)| {
                    let mut more = vec![state.clone()];
                    if self.place_of_expiry(at).is_some() {
                        more.push(Arc::new(Field::new(EXPIRES_MS, DataType::Int64, true)));
                    }
                    table(format!("state-{}", state.name()), Some(state), more)
                };
                let kind = Arc::new(Field::new("kind", DataType::Utf8, false));
                let timers = table("timers".to_owned(), None, vec![kind, integer("time_ms")]);
                states.iter().enumerate().map(state).chain([timers]).collect()
            }
            LayoutKind::Windows(accumulator) => {
                let more = vec![integer("slice_start_ms") as FieldRef, accumulator.clone()];
                vec![table("windows".to_owned(), Some(accumulator), more)]
            }
            LayoutKind::Sessions(accumulator) => {
                let more = vec![integer("first_ms") as FieldRef, integer("last_ms"), accumulator.clone()];
                vec![table("sessions".to_owned(), Some(accumulator), more)]
            }
        };
        tables.extend(large);
        tables
    }

    /// Key group, key, and more; a name that is taken gets a number.
    fn table_schema(&self, more: Vec<FieldRef>) -> SchemaRef {
        let group: FieldRef = Arc::new(Field::new(KEY_GROUP, DataType::UInt32, false));
        let fields = [group].into_iter().chain(self.key.iter().cloned()).chain(more);
        let mut taken = BTreeSet::new();
        let unique = |field: FieldRef| {
            let mut name = field.name().clone();
            let mut number = 2;
            while !taken.insert(name.clone()) {
                name = format!("{}_{number}", field.name());
                number += 1;
            }
            Arc::new(field.as_ref().clone().with_name(name))
        };
        Arc::new(Schema::new(fields.map(unique).collect::<Fields>()))
    }
}

/// Members of the column that says when states expire.
pub(crate) fn expires_fields(states: &[FieldRef], expiring: &[usize]) -> Fields {
    let time = |at: &usize| Field::new(states[*at].name(), DataType::Int64, true);
    expiring.iter().map(time).collect()
}

/// The states that the members of this type are named like.
fn expiring_states(states: &[FieldRef], expires: &DataType) -> Option<Vec<usize>> {
    let DataType::Struct(members) = expires else {
        return None;
    };
    let position = |member: &FieldRef| states.iter().position(|state| state.name() == member.name());
    members.iter().map(position).collect()
}

/// An item of a list of timers.
pub(crate) fn times_field() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Int64, false))
}

/// Members of a session in the rows of a layer.
pub(crate) fn session_fields(accumulator: &FieldRef) -> Fields {
    let time = |name| Arc::new(Field::new(name, DataType::Int64, false));
    Fields::from(vec![
        time(columns::SESSION_FIRST),
        time(columns::SESSION_LAST),
        accumulator.clone(),
    ])
}

/// An item of the list of a key's sessions.
pub(crate) fn session_item(accumulator: &FieldRef) -> FieldRef {
    let fields = session_fields(accumulator);
    Arc::new(Field::new_list_field(DataType::Struct(fields), false))
}

fn session_accumulator(sessions: &DataType) -> Option<FieldRef> {
    match sessions {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(members) => members.get(2).cloned(),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_from_their_rows() {
        let key = Fields::from(vec![Field::new("user", DataType::Utf8, true)]);
        let count = Arc::new(Field::new("count", DataType::Int64, true));
        let other = Arc::new(Field::new("other", DataType::Int64, true));
        for (kind, expiring) in [
            (LayoutKind::Keyed(vec![]), vec![]),
            (LayoutKind::Keyed(vec![count.clone(), count.clone()]), vec![]),
            (LayoutKind::Keyed(vec![count.clone(), other.clone()]), vec![1]),
            (LayoutKind::Keyed(vec![count.clone(), other]), vec![0, 1]),
            (LayoutKind::Windows(count.clone()), vec![]),
            (LayoutKind::Sessions(count.clone()), vec![]),
        ] {
            let layout = Layout {
                key: key.clone(),
                kind,
                expiring,
                large: Vec::new(),
            };
            assert_eq!(Layout::of_rows(&layout.rows_schema()), Some(layout));
        }
        assert_eq!(Layout::of_rows(&Schema::empty()), None);
    }

    #[test]
    fn columns_of_a_table_have_names_of_their_own() {
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let layout = Layout {
            key: Fields::from(vec![field("count"), field("key_group"), field("count")]),
            kind: LayoutKind::Keyed(vec![Arc::new(field("count"))]),
            expiring: vec![0],
            large: Vec::new(),
        };
        let tables = layout.tables();
        let names = |at: usize| {
            let schema: &SchemaRef = &tables[at].schema;
            schema
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(0),
            ["key_group", "count", "key_group_2", "count_2", "count_3", "expires_ms"]
        );
        assert_eq!(names(1)[4..], ["kind", "time_ms"]);
        assert_eq!(
            (tables[0].name.as_str(), tables[1].name.as_str()),
            ("state-count", "timers")
        );
    }
}
