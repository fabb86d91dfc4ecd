//! How values of one schema become values of another, decided from the two schemas alone.
//!
//! Members of a struct are matched by name, then by alias. A member that only the new schema has is null, or what it
//! declares; one that only the old schema has is dropped. Types become others by the table of
//! [`widening`]. Lists, maps and structs become lists, maps and structs. Variants of a sum type are
//! matched by name too, and tags follow; whether a variant that is gone is in use only the values can say.
//!
//! A null that may not be there any more needs a default. The keys of a map keep what tells them apart: no member is
//! dropped and no null replaced. The key of an operator keeps its canonical encoding: its fields stay in place and
//! become others only where the encoding is the same.

use arrow_schema::DataType;
use serde::Serialize;

use super::declared::{Declared, Missing, Node, Variant};
use super::types::field_text;
use super::widen::{Role, Widening, widening};

/// How values of a column become those of a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conversion {
    /// They are the same.
    Same,
    /// Another type, which every value fits.
    Cast,
    /// Another type; a value that does not fit is refused.
    CheckedCast,
    /// Members of a struct, in the new order.
    Struct(Vec<Member>),
    /// A sum type: what becomes of each old tag, and the members behind the tag in the new order.
    Sum {
        /// By old tag.
        tags: Vec<TagTo>,
        /// Behind the tag.
        members: Vec<Member>,
    },
    /// Items of a list.
    List(Box<Member>),
    /// Keys and values of a map.
    Map(Box<Member>, Box<Member>),
}

/// Where a member of a struct comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// From a member of the old struct.
    From {
        /// Its position.
        index: usize,
        /// How its values are made.
        conversion: Conversion,
        /// What takes the place of nulls, which are not allowed any more.
        nulls: Option<Missing>,
    },
    /// There was none: it is null.
    Null,
    /// There was none: it has this value.
    Default(Missing),
}

/// What becomes of a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagTo {
    /// It has this tag.
    Tag(i8),
    /// Values that are of it cannot be converted, for this reason.
    Refused(String),
}

/// One difference between two schemas that conversion bridges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Path of the field in the new schema, or of the dropped one in the old; empty: the value itself.
    pub field: String,
    /// What is done.
    pub what: String,
}

/// Why a field cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Path of the field; empty: the value itself.
    pub field: String,
    /// What is in the way.
    pub reason: String,
}

/// What two schemas resolve to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved<T> {
    /// How values are converted.
    pub how: T,
    /// What that changes; empty: nothing.
    pub changes: Vec<Change>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        located(&self.field, &self.reason, f)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        located(&self.field, &self.what, f)
    }
}

fn located(field: &str, what: &str, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    match field {
        "" => f.write_str(what),
        field => write!(f, "field `{field}`: {what}"),
    }
}

/// How values of a state are converted; the names of the two fields themselves do not matter.
///
/// ```
/// use arrow_schema::{DataType, Field};
/// use millrace_core::schema::{Conversion, Declared, resolve};
/// let field = |data_type| Declared::plain(Field::new("total", data_type, true));
/// let resolved = resolve(&field(DataType::Int32), &field(DataType::Int64)).unwrap();
/// assert_eq!(resolved.how, Conversion::Cast);
/// assert_eq!(resolved.changes[0].to_string(), "int32 becomes int64");
/// assert!(resolve(&field(DataType::Int64), &field(DataType::Int32)).is_err());
/// ```
pub fn resolve(old: &Declared, new: &Declared) -> Result<Resolved<Conversion>, Vec<Refusal>> {
    let mut resolver = Resolver::new(Role::Value);
    let how = resolver.value("", old.node(), new.node());
    resolver.finish(how)
}

/// How the fields of an operator's key are converted, in their order.
pub fn resolve_key(old: &[Declared], new: &[Declared]) -> Result<Resolved<Vec<Conversion>>, Vec<Refusal>> {
    let mut resolver = Resolver::new(Role::OperatorKey);
    let old: Vec<Node<'_>> = old.iter().map(Declared::node).collect();
    let new: Vec<Node<'_>> = new.iter().map(Declared::node).collect();
    let members = resolver.in_place("", &old, &new);
    let how = members.into_iter().map(|member| match member {
        Member::From { conversion, .. } => conversion,
        Member::Null | Member::Default(_) => Conversion::Same, // refused
    });
    let how = how.collect();
    resolver.finish(how)
}

struct Resolver {
    role: Role,
    changes: Vec<Change>,
    refusals: Vec<Refusal>,
}

impl Resolver {
    fn new(role: Role) -> Self {
        Resolver {
            role,
            changes: Vec::new(),
            refusals: Vec::new(),
        }
    }

    fn finish<T>(self, how: T) -> Result<Resolved<T>, Vec<Refusal>> {
        if !self.refusals.is_empty() {
            return Err(self.refusals);
        }
        let changes = self.changes;
        Ok(Resolved { how, changes })
    }

    fn change(&mut self, path: &str, what: impl Into<String>) {
        let (field, what) = (path.to_owned(), what.into());
        self.changes.push(Change { field, what });
    }

    fn refuse(&mut self, path: &str, reason: impl Into<String>) -> Conversion {
        let (field, reason) = (path.to_owned(), reason.into());
        self.refusals.push(Refusal { field, reason });
        Conversion::Same
    }

    /// The same with another role for what is inside.
    fn as_role<T>(&mut self, role: Role, then: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.role, role);
        let result = then(self);
        self.role = before;
        result
    }

    fn value(&mut self, path: &str, old: Node<'_>, new: Node<'_>) -> Conversion {
        let (old_type, new_type) = (old.field.data_type(), new.field.data_type());
        match (old_type, new_type) {
            (DataType::Struct(_), DataType::Struct(_)) => match (old.variants(), new.variants()) {
                (Some(old_variants), Some(new_variants)) => self.sum(path, (old, old_variants), (new, new_variants)),
                _ => self.structure(path, old, new),
            },
            (DataType::List(_), DataType::List(_)) => {
                let (old_item, new_item) = (old.children()[0], new.children()[0]);
                let item = self.member(&join(path, "item"), 0, old_item, new_item);
                match is_kept(&item, 0) && old_type == new_type {
                    true => Conversion::Same,
                    false => Conversion::List(Box::new(item)),
                }
            }
            (DataType::Map(..), DataType::Map(..)) => self.map(path, old, new),
            (old_type, new_type) if old_type == new_type => Conversion::Same,
            (old_type, new_type) => {
                let what = format!("{} becomes {}", field_text(old_type), field_text(new_type));
                match widening(old_type, new_type, self.role) {
                    Some(Widening::Every) => {
                        self.change(path, what);
                        Conversion::Cast
                    }
                    Some(Widening::InRange) => {
                        self.change(path, what);
                        Conversion::CheckedCast
                    }
                    None => self.refuse_type(path, old_type, new_type),
                }
            }
        }
    }

    fn refuse_type(&mut self, path: &str, old: &DataType, new: &DataType) -> Conversion {
        let why = match widening(old, new, Role::Value) {
            Some(_) if self.role == Role::OperatorKey => ", for it is in a key and would move to another key group",
            _ => "",
        };
        self.refuse(
            path,
            format!("{} cannot become {}{why}", field_text(old), field_text(new)),
        )
    }

    fn map(&mut self, path: &str, old: Node<'_>, new: Node<'_>) -> Conversion {
        let (old_entries, new_entries) = (old.children()[0].children(), new.children()[0].children());
        let (&[old_key, old_value], &[new_key, new_value]) = (old_entries.as_slice(), new_entries.as_slice()) else {
            return self.refuse(path, "a map whose entries are not pairs");
        };
        let role = self.role;
        let key = self.as_role(if role == Role::Value { Role::MapKey } else { role }, |resolver| {
            resolver.member(&join(path, "key"), 0, old_key, new_key)
        });
        let value = self.member(&join(path, "value"), 1, old_value, new_value);
        if old.field.data_type() == new.field.data_type() && is_trivial(&[key.clone(), value.clone()]) {
            return Conversion::Same;
        }
        Conversion::Map(Box::new(key), Box::new(value))
    }

    fn structure(&mut self, path: &str, old: Node<'_>, new: Node<'_>) -> Conversion {
        let members = match self.role {
            Role::OperatorKey => self.in_place(path, &old.children(), &new.children()),
            Role::Value | Role::MapKey => self.by_name(path, &old.children(), &new.children()),
        };
        let same_length = old.children().len() == members.len();
        if old.field.data_type() == new.field.data_type() && same_length && is_trivial(&members) {
            return Conversion::Same;
        }
        Conversion::Struct(members)
    }

    /// Members of which each stays where it is.
    fn in_place(&mut self, path: &str, old: &[Node<'_>], new: &[Node<'_>]) -> Vec<Member> {
        if old.len() != new.len() {
            let (then, now) = (names(old), names(new));
            let reason = format!("the key's fields were {then} and are {now}; a key cannot gain or lose fields");
            self.refuse(path, reason);
            return Vec::new();
        }
        let mut members = Vec::new();
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            let inner = join(path, new.name());
            if old.name() != new.name() {
                if !new.hints.aliases.iter().any(|alias| alias == old.name()) {
                    let was = old.name();
                    let reason = format!(
                        "in its place in the key there was `{was}`; the fields of a key keep their order, and one that is \
                         renamed needs the alias `{was}`"
                    );
                    self.refuse(&inner, reason);
                    continue;
                }
                self.change(&inner, format!("renamed from `{}`", old.name()));
            }
            members.push(self.member(&inner, index, *old, *new));
        }
        members
    }

    fn by_name(&mut self, path: &str, old: &[Node<'_>], new: &[Node<'_>]) -> Vec<Member> {
        let sources = match_names(old, new);
        let mut members = Vec::new();
        for (new, source) in new.iter().zip(&sources) {
            let inner = join(path, new.name());
            members.push(match source {
                Some(index) => {
                    let old = old[*index];
                    if old.name() != new.name() {
                        self.change(&inner, format!("renamed from `{}`", old.name()));
                    }
                    self.member(&inner, *index, old, *new)
                }
                None => self.added(&inner, *new),
            });
        }
        for (index, old) in old.iter().enumerate() {
            if sources.contains(&Some(index)) {
                continue;
            }
            let inner = join(path, old.name());
            match self.role {
                Role::Value => self.change(&inner, "dropped"),
                Role::MapKey | Role::OperatorKey => {
                    let reason = "it was dropped from the keys of a map, of which some might then be equal";
                    self.refuse(&inner, reason);
                }
            }
        }
        let kept: Vec<usize> = sources.into_iter().flatten().collect();
        if !kept.is_sorted() {
            self.change(path, "fields in another order");
        }
        members
    }

    fn added(&mut self, path: &str, new: Node<'_>) -> Member {
        match (&new.hints.missing, new.field.is_nullable()) {
            (Missing::Undeclared, true) => {
                self.change(path, "added as null");
                Member::Null
            }
            (Missing::Undeclared, false) => {
                let reason = "it is new, and neither nullable nor does it have a default";
                self.refuse(path, reason);
                Member::Null
            }
            (missing, _) => {
                self.change(path, format!("added as {}", missing_text(missing)));
                Member::Default(missing.clone())
            }
        }
    }

    /// A member that there was: its values and its nulls.
    fn member(&mut self, path: &str, index: usize, old: Node<'_>, new: Node<'_>) -> Member {
        let conversion = self.value(path, old, new);
        let nulls = match (old.field.is_nullable(), new.field.is_nullable()) {
            (false, true) => {
                self.change(path, "made nullable");
                None
            }
            (true, false) => match (&new.hints.missing, self.role) {
                (Missing::Undeclared, _) => {
                    self.refuse(path, "it was nullable, is so no more, and has no default for nulls");
                    None
                }
                (missing, Role::Value) => {
                    self.change(path, format!("nulls become {}", missing_text(missing)));
                    Some(missing.clone())
                }
                (_, Role::MapKey | Role::OperatorKey) => {
                    self.refuse(path, "it was nullable, and keys that differ must not become equal");
                    None
                }
            },
            (true, true) | (false, false) => None,
        };
        Member::From {
            index,
            conversion,
            nulls,
        }
    }

    fn sum(&mut self, path: &str, (old, was): (Node<'_>, &[Variant]), (new, is): (Node<'_>, &[Variant])) -> Conversion {
        let (old_members, new_members) = (old.children(), new.children());
        let carries = |members: &[Node<'_>], name: &str| {
            let found = members.iter().skip(1).position(|member| member.name() == name);
            found.map(|at| at + 1)
        };
        let sources = match_variants(was, is);
        if self.role == Role::OperatorKey {
            let in_place = sources.iter().take(was.len()).enumerate();
            let same = is.len() >= was.len()
                && old_members.len() == new_members.len()
                && in_place.into_iter().all(|(tag, source)| *source == Some(tag));
            if !same {
                return self.refuse(path, "a key's variants keep their order and what they carry");
            }
        }
        let mut tags: Vec<TagTo> = was
            .iter()
            .map(|old| TagTo::Refused(format!("variant `{}` is gone", old.name)))
            .collect();
        let mut members = vec![Member::Null; new_members.len()];
        for (tag, (variant, source)) in is.iter().zip(&sources).enumerate() {
            let inner = join(path, &variant.name);
            let now = carries(&new_members, &variant.name);
            let Some(source) = *source else {
                self.change(&inner, "variant added");
                continue;
            };
            if was[source].name != variant.name {
                self.change(&inner, format!("variant renamed from `{}`", was[source].name));
            }
            tags[source] = TagTo::Tag(tag as i8);
            match (carries(&old_members, &was[source].name), now) {
                (Some(before), Some(now)) => {
                    members[now] = self.member(&inner, before, old_members[before], new_members[now]);
                }
                (Some(_), None) if self.role == Role::Value => self.change(&inner, "variant carries nothing any more"),
                (Some(_), None) => {
                    self.refuse(&inner, "a variant in the keys of a map lost what it carried");
                }
                (None, Some(_)) => {
                    let reason = format!("variant `{}` carries fields now", variant.name);
                    self.change(&inner, "variant carries fields now");
                    tags[source] = TagTo::Refused(reason);
                }
                (None, None) => {}
            }
        }
        for (at, old) in was.iter().enumerate() {
            if !sources.contains(&Some(at)) {
                self.change(&join(path, &old.name), "variant dropped, which no value may be of");
            }
        }
        let same_tags = tags.iter().zip(0i8..).all(|(to, tag)| *to == TagTo::Tag(tag));
        if !same_tags && tags.iter().all(|to| matches!(to, TagTo::Tag(_))) {
            self.change(path, "variants with other tags");
        }
        let members = members.split_off(1);
        let trivial = members.iter().zip(1..).all(|(member, at)| is_kept(member, at));
        if same_tags && trivial && old.field.data_type() == new.field.data_type() {
            return Conversion::Same;
        }
        Conversion::Sum { tags, members }
    }
}

/// For each new field the old one that it comes from: by its name, or else by an alias.
fn match_names(old: &[Node<'_>], new: &[Node<'_>]) -> Vec<Option<usize>> {
    let old: Vec<&str> = old.iter().map(|field| field.name()).collect();
    let new: Vec<(&str, &[String])> = new
        .iter()
        .map(|field| (field.name(), field.hints.aliases.as_slice()))
        .collect();
    matches_by_name(&old, &new)
}

fn match_variants(old: &[Variant], new: &[Variant]) -> Vec<Option<usize>> {
    let old: Vec<&str> = old.iter().map(|variant| variant.name.as_str()).collect();
    let new: Vec<(&str, &[String])> = new
        .iter()
        .map(|variant| (variant.name.as_str(), variant.aliases.as_slice()))
        .collect();
    matches_by_name(&old, &new)
}

/// For each new name the position of the old one that it goes on with; no old one twice.
pub(crate) fn matches_by_name(old: &[&str], new: &[(&str, &[String])]) -> Vec<Option<usize>> {
    let at = |name: &str| old.iter().position(|old| *old == name);
    let mut found: Vec<Option<usize>> = new.iter().map(|(name, _)| at(name)).collect();
    for (index, (_, aliases)) in new.iter().enumerate() {
        if found[index].is_none() {
            let candidates = aliases.iter().filter_map(|alias| at(alias));
            let free: Vec<usize> = candidates.filter(|at| !found.contains(&Some(*at))).collect();
            found[index] = free.first().copied();
        }
    }
    found
}

fn is_trivial(members: &[Member]) -> bool {
    members.iter().enumerate().all(|(at, member)| is_kept(member, at))
}

fn is_kept(member: &Member, at: usize) -> bool {
    match member {
        Member::From {
            index,
            conversion,
            nulls,
        } => *index == at && *conversion == Conversion::Same && nulls.is_none(),
        Member::Null | Member::Default(_) => false,
    }
}

fn missing_text(missing: &Missing) -> String {
    match missing {
        Missing::Undeclared => "null".to_owned(),
        Missing::Zero => "zero".to_owned(),
        Missing::Text(text) => format!("`{text}`"),
    }
}

fn names(fields: &[Node<'_>]) -> String {
    let names: Vec<String> = fields.iter().map(|field| format!("`{}`", field.name())).collect();
    names.join(", ")
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}
