//! Schemas as a pipeline declares them: Arrow fields, beside them what they say of earlier versions.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields};

use crate::block::Millis;
use crate::collections::CollectionSchema;
use crate::graph::{Head, SUBTASK_KEY, StateDecl, StateKind, TimeToLive, WindowAssigner};

/// A field with its hints. The field itself is a plain Arrow field, as blocks have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Name, type and nullability.
    pub field: FieldRef,
    /// What it says of earlier versions.
    pub hints: Hints,
}

/// What a field says of earlier versions of itself and of the fields in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Names that it had.
    pub aliases: Vec<String>,
    /// What a value gets that was stored before there was this field.
    pub missing: Missing,
    /// Of the member `tag` of a sum type: its variants in the order of tags. Empty: it is none, or they are not known.
    pub variants: Vec<Variant>,
    /// Of the fields in it, in their order; empty: they say nothing.
    pub children: Vec<Hints>,
}

/// A variant of a sum type. If it carries fields, the member of this name has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Names that it had.
    pub aliases: Vec<String>,
}

/// What stands in for a value that is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Missing {
    /// Nothing: null where the field is nullable, otherwise the state cannot be converted.
    #[default]
    Undeclared,
    /// Zero, false, empty, or the first variant.
    Zero,
    /// The value that this text is.
    Text(String),
}

const NO_HINTS: &Hints = &Hints {
    aliases: Vec::new(),
    missing: Missing::Undeclared,
    variants: Vec::new(),
    children: Vec::new(),
};

/// A field in a tree of declared ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) field: &'a Field,
    pub(crate) hints: &'a Hints,
}

impl<'a> Node<'a> {
    pub(crate) fn name(self) -> &'a str {
        self.field.name()
    }

    pub(crate) fn children(self) -> Vec<Node<'a>> {
        let fields: &[FieldRef] = match self.field.data_type() {
            DataType::Struct(members) => members,
            DataType::List(item) => std::slice::from_ref(item),
            DataType::Map(entries, _) => std::slice::from_ref(entries),
            _ => &[],
        };
        let hints = self.hints.children.iter().chain(std::iter::repeat(NO_HINTS));
        let nodes = fields.iter().zip(hints);
        nodes.map(|(field, hints)| Node { field, hints }).collect()
    }

    /// Its variants, if it is a sum type and they are known.
    pub(crate) fn variants(self) -> Option<&'a [Variant]> {
        match self.children().first() {
            Some(tag) if !tag.hints.variants.is_empty() && *tag.field.data_type() == DataType::Int8 => {
                Some(&tag.hints.variants)
            }
            _ => None,
        }
    }
}

impl Declared {
    /// A field that says nothing of earlier versions.
    pub fn plain(field: impl Into<FieldRef>) -> Self {
        Declared {
            field: field.into(),
            hints: Hints::default(),
        }
    }

    /// The same under another name, nullable as the value of a state is.
    #[must_use]
    pub fn as_state(&self, name: &str) -> Self {
        let field = self.field.as_ref().clone().with_name(name).with_nullable(true);
        Declared {
            field: Arc::new(field),
            hints: self.hints.clone(),
        }
    }

    /// Its fields: members of a struct, the item of a list, the entries of a map.
    pub fn children(&self) -> Vec<Declared> {
        let nodes = self.node().children().into_iter();
        let own = |node: Node<'_>| Declared {
            field: Arc::new(node.field.clone()),
            hints: node.hints.clone(),
        };
        nodes.map(own).collect()
    }

    /// Variants of a sum type, in the order of tags; `None`: it is none, or they are not known.
    pub fn variants(&self) -> Option<&[Variant]> {
        self.node().variants()
    }

    /// Whether two schemas are the same, whatever they say of earlier versions. Variants that one of them does not
    /// know are not compared.
    pub fn is_same(&self, other: &Declared) -> bool {
        self.field.is_nullable() == other.field.is_nullable() && is_same_type(self.node(), other.node())
    }

    pub(crate) fn node(&self) -> Node<'_> {
        Node {
            field: &self.field,
            hints: &self.hints,
        }
    }
}

fn is_same_type(a: Node<'_>, b: Node<'_>) -> bool {
    let names = |node: Node<'_>| -> Vec<String> {
        let variants = node.hints.variants.iter();
        variants.map(|variant| variant.name.clone()).collect()
    };
    let (variants, others) = (names(a), names(b));
    a.field.data_type() == b.field.data_type()
        && (variants.is_empty() || others.is_empty() || variants == others)
        && a.children()
            .into_iter()
            .zip(b.children())
            .all(|(a, b)| is_same_type(a, b))
}

/// What a keyed operator keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedSchema {
    /// For a key, or for a key and something else.
    pub kind: KeyedKind,
    /// Fields of the key.
    pub key: Vec<Declared>,
    /// The states; of windows the accumulator.
    pub states: Vec<DeclaredState>,
    /// The windows that they are of, in words, if it is known.
    pub windows: Option<String>,
}

/// What states belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyedKind {
    /// A key.
    Keyed,
    /// A key and a slice of time; `None`: how long slices are is not known.
    Windows(Option<SliceGrid>),
    /// A key and a session.
    Sessions,
}

/// How time is cut into slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceGrid {
    /// Length of a slice.
    pub slice_ms: Millis,
    /// Where the grid begins: less than a slice behind a multiple of its length.
    pub offset_ms: Millis,
}

/// A state as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredState {
    /// Its value, under the name of the state.
    pub value: Declared,
    /// Schemas of earlier versions that the guest converts itself.
    pub migrations: Vec<Declared>,
    /// How long it lives, if it is not for ever. Its rows say when they expire then.
    pub ttl: Option<TimeToLive>,
    /// It is a map or list whose entries are kept one by one.
    pub large: bool,
    /// Every subtask has it whole; it is large, too.
    pub broadcast: bool,
}

impl DeclaredState {
    /// Its name.
    pub fn name(&self) -> &str {
        self.value.field.name()
    }

    /// What its entries are, if it is large.
    pub fn collection(&self) -> Option<CollectionSchema> {
        let collection = CollectionSchema::of(&self.value.field).filter(|_| self.large)?;
        Some(CollectionSchema {
            broadcast: self.broadcast,
            ttl: self.ttl,
            ..collection
        })
    }

    fn of(state: &StateDecl) -> Self {
        let mut value = Declared {
            field: Arc::new(state.schema.field(0).clone()),
            hints: state.hints.clone(),
        };
        value.hints.aliases = state.aliases.clone();
        let migrations = state.migrations.iter();
        DeclaredState {
            value: value.as_state(&state.name),
            migrations: migrations.map(|old| old.as_state(&state.name)).collect(),
            ttl: state.ttl,
            large: state.kind.is_large(),
            broadcast: state.kind == StateKind::BroadcastMap,
        }
    }
}

impl KeyedSchema {
    /// What the head of a chain keeps, if it keeps something.
    pub fn of_head(head: &Head) -> Option<KeyedSchema> {
        let (kind, key_schema, key_hints, states, windows) = match head {
            Head::Stateless => return None,
            Head::Keyed {
                key_schema,
                key_hints,
                states,
                windows,
                ..
            } => (
                KeyedKind::Keyed,
                key_schema,
                key_hints,
                states.as_slice(),
                windows.clone(),
            ),
            Head::Window {
                key_schema,
                key_hints,
                window,
                accumulator,
            } => {
                let kind = match window.assigner {
                    WindowAssigner::Tumbling { size_ms, offset_ms } => slices(size_ms, size_ms, offset_ms),
                    WindowAssigner::Sliding {
                        size_ms,
                        slide_ms,
                        offset_ms,
                    } => slices(size_ms, slide_ms, offset_ms),
                    WindowAssigner::Session { .. } => KeyedKind::Sessions,
                };
                let windows = Some(window.assigner.description());
                (kind, key_schema, key_hints, std::slice::from_ref(accumulator), windows)
            }
        };
        let hints = key_hints.iter().chain(std::iter::repeat(NO_HINTS));
        let key = key_schema.fields().iter().zip(hints).map(|(field, hints)| Declared {
            field: field.clone(),
            hints: hints.clone(),
        });
        Some(KeyedSchema {
            kind,
            key: key.collect(),
            states: states.iter().map(DeclaredState::of).collect(),
            windows,
        })
    }

    /// Whether two are the same, whatever they say of earlier versions: layers of both can lie on each other.
    pub fn is_same(&self, other: &KeyedSchema) -> bool {
        let named = |a: &Declared, b: &Declared| a.field.name() == b.field.name() && a.is_same(b);
        self.kind == other.kind
            && self.key.len() == other.key.len()
            && self.states.len() == other.states.len()
            && self.key.iter().zip(&other.key).all(|(a, b)| named(a, b))
            && self.states.iter().zip(&other.states).all(|(a, b)| {
                let kind = |state: &DeclaredState| (state.ttl.is_some(), state.large, state.broadcast);
                named(&a.value, &b.value) && kind(a) == kind(b)
            })
    }

    /// Whether it is of rows without a key: each subtask has an entry of its own, whose key is its number.
    pub fn is_unkeyed(&self) -> bool {
        matches!(self.key.as_slice(), [key] if key.field.name() == SUBTASK_KEY)
    }

    /// Its large states, in order.
    pub fn collections(&self) -> impl Iterator<Item = CollectionSchema> {
        self.states.iter().filter_map(DeclaredState::collection)
    }

    /// Fields of the key.
    pub fn key_fields(&self) -> Fields {
        self.key.iter().map(|field| field.field.clone()).collect()
    }
}

fn slices(size_ms: Millis, slide_ms: Millis, offset_ms: Millis) -> KeyedKind {
    let (mut slice_ms, mut rest) = (size_ms, slide_ms);
    while rest != 0 {
        (slice_ms, rest) = (rest, slice_ms % rest);
    }
    KeyedKind::Windows(Some(SliceGrid {
        slice_ms,
        offset_ms: offset_ms.rem_euclid(slice_ms.max(1)),
    }))
}
