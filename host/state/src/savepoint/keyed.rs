//! What an operator kept by key, as descriptions say it: beside the columns what rows alone do not tell.

use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::schema::{DeclaredState, KeyedKind, KeyedSchema, SliceGrid};
use serde::{Deserialize, Serialize};

use super::layout::{LargeState, Layout, LayoutKind};
use super::manifest::StateKind;
use super::schema::Column;
use millrace_core::schema::Declared;

/// What an operator kept by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSchema {
    /// `keyed`, `windows` or `sessions`.
    pub kind: StateKind,
    /// How time was cut, of windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<SavedSlices>,
    /// Fields of the key.
    pub key: Vec<Column>,
    /// Its states; of windows the accumulator.
    pub states: Vec<Column>,
    /// The windows that they are of, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<String>,
}

/// How time was cut into slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSlices {
    /// Length of a slice.
    pub length_ms: Millis,
    /// Where the grid begins.
    pub offset_ms: Millis,
}

impl From<SliceGrid> for SavedSlices {
    fn from(grid: SliceGrid) -> Self {
        SavedSlices {
            length_ms: grid.slice_ms,
            offset_ms: grid.offset_ms,
        }
    }
}

impl From<SavedSlices> for SliceGrid {
    fn from(saved: SavedSlices) -> Self {
        SliceGrid {
            slice_ms: saved.length_ms,
            offset_ms: saved.offset_ms,
        }
    }
}

impl SavedSchema {
    /// Describes a schema.
    ///
    /// # Errors
    /// `CS0203` for a type that no state has.
    pub fn of(schema: &KeyedSchema) -> Result<Self> {
        let (kind, slices) = match schema.kind {
            KeyedKind::Keyed => (StateKind::Keyed, None),
            KeyedKind::Windows(grid) => (StateKind::Windows, grid.map(Into::into)),
            KeyedKind::Sessions => (StateKind::Sessions, None),
        };
        let states = schema.states.iter().map(|state| {
            let mut column = Column::of_state(state)?;
            column.large = state.large;
            column.broadcast = state.broadcast;
            Ok(column)
        });
        Ok(SavedSchema {
            kind,
            slices,
            key: schema.key.iter().map(Column::of_declared).collect::<Result<_>>()?,
            states: states.collect::<Result<_>>()?,
            windows: schema.windows.clone(),
        })
    }

    /// The schema that is described; `None` if there is none such.
    pub fn schema(&self) -> Option<KeyedSchema> {
        let kind = match self.kind {
            StateKind::None => return None,
            StateKind::Keyed => KeyedKind::Keyed,
            StateKind::Windows => KeyedKind::Windows(self.slices.map(Into::into)),
            StateKind::Sessions => KeyedKind::Sessions,
        };
        let state = |column: &Column| {
            Some(DeclaredState {
                value: column.declared()?,
                migrations: Vec::new(),
                ttl: column.ttl.map(Into::into),
                large: column.large,
                broadcast: column.broadcast,
            })
        };
        let single = kind == KeyedKind::Keyed || self.states.len() == 1;
        let schema = KeyedSchema {
            kind,
            key: self.key.iter().map(Column::declared).collect::<Option<_>>()?,
            states: self.states.iter().map(state).collect::<Option<_>>()?,
            windows: self.windows.clone(),
        };
        single.then_some(schema)
    }
}

impl Layout {
    /// The layout of rows of this schema.
    ///
    /// # Panics
    /// If the schema is of windows and has another number of states than one.
    pub fn of_schema(schema: &KeyedSchema) -> Layout {
        let field = |state: &DeclaredState| state.value.field.clone();
        let large_state = |state: &DeclaredState| LargeState {
            field: field(state),
            ttl: state.ttl,
        };
        let (large, states): (Vec<_>, Vec<_>) = schema.states.iter().partition(|state| state.large);
        let expiring = states.iter().enumerate();
        let expiring = expiring.filter(|(_, state)| state.ttl.is_some() && schema.kind == KeyedKind::Keyed);
        let expiring = expiring.map(|(at, _)| at).collect();
        let mut states: Vec<_> = states.into_iter().map(field).collect();
        let kind = match schema.kind {
            KeyedKind::Keyed => LayoutKind::Keyed(states),
            KeyedKind::Windows(_) | KeyedKind::Sessions => {
                assert_eq!(states.len(), 1, "windows have one accumulator");
                let accumulator = states.remove(0);
                match schema.kind {
                    KeyedKind::Sessions => LayoutKind::Sessions(accumulator),
                    KeyedKind::Keyed | KeyedKind::Windows(_) => LayoutKind::Windows(accumulator),
                }
            }
        };
        Layout {
            key: schema.key_fields(),
            kind,
            expiring,
            large: large.into_iter().map(large_state).collect(),
        }
    }

    /// The schema of rows of this layout: all that rows tell.
    pub fn schema(&self) -> KeyedSchema {
        let kind = match &self.kind {
            LayoutKind::Keyed(_) => KeyedKind::Keyed,
            LayoutKind::Windows(_) => KeyedKind::Windows(None),
            LayoutKind::Sessions(_) => KeyedKind::Sessions,
        };
        let states = self.states().iter().map(|state| DeclaredState {
            value: Declared::plain(state.clone()),
            migrations: Vec::new(),
            // Rows that say when they expire have descriptions beside them.
            ttl: None,
            large: false,
            broadcast: false,
        });
        KeyedSchema {
            kind,
            key: self.key.iter().map(|field| Declared::plain(field.clone())).collect(),
            states: states.collect(),
            windows: None,
        }
    }
}
