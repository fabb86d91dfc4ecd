//! Whether a pipeline can go on from what another one, or an earlier version of it, has left: one decision for `jobctl
//! check`, for a start and for a restart.
//!
//! ```text
//!   stored operators --+
//!                      +-- decide --> Upgrade: what becomes of each operator and state, how rows are converted,
//!   declared ones -----+                       and whether that is refused
//! ```
//!
//! Operators are matched by their identity ([`operator_ids`](crate::graph::operator_ids)), states by name or alias. Some
//! conversions depend on values (a variant that is gone may be in use): [`OperatorPlan::looks_at_values`] says which,
//! and whoever carries them out reports what does not fit.

mod report;
#[cfg(test)]
mod tests;

use crate::schema::{
    Conversion, DeclaredState, KeyedKind, KeyedSchema, Member, Refusal, TagTo, matches_by_name, resolve, resolve_key,
};

pub use report::{OperatorUpgrade, Outcome, StateUpgrade, Upgrade};

/// What is stored of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOperator {
    /// Its identity.
    pub id: String,
    /// For people.
    pub name: String,
    /// Number of its subtasks.
    pub parallelism: u32,
    /// What it kept by key.
    pub keyed: Option<KeyedSchema>,
    /// Kind of its connector, if it is known.
    pub connector: Option<String>,
    /// Splits that it was reading.
    pub splits: usize,
    /// Transactions that it had prepared.
    pub transactions: usize,
    /// Whether leaving it behind loses something.
    pub holds_state: bool,
}

/// An operator as it is declared now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredOperator {
    /// Its identity.
    pub id: String,
    /// For people.
    pub name: String,
    /// Number of its subtasks.
    pub parallelism: u32,
    /// What it keeps by key.
    pub keyed: Option<KeyedSchema>,
    /// Kind of its connector, if it is a source or sink.
    pub connector: Option<String>,
}

/// How rows of an operator's stored state become rows of its declared one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorPlan {
    /// What was stored.
    pub old: KeyedSchema,
    /// What is declared.
    pub new: KeyedSchema,
    /// By field of the key.
    pub key: Vec<Conversion>,
    /// By declared state.
    pub states: Vec<StatePlan>,
}

/// Where the values of a state come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatePlan {
    /// From a stored state.
    Convert {
        /// Its position.
        from: usize,
        /// How.
        conversion: Conversion,
    },
    /// From a stored state, by the guest.
    Migrate {
        /// Its position.
        from: usize,
        /// Position of the migration among the state's.
        migration: usize,
    },
    /// There was none.
    New,
}

impl OperatorPlan {
    /// Whether rows stay as they are.
    pub fn is_same(&self) -> bool {
        let kept = |(at, state): (usize, &StatePlan)| match state {
            StatePlan::Convert { from, conversion } => *from == at && *conversion == Conversion::Same,
            StatePlan::Migrate { .. } | StatePlan::New => false,
        };
        self.old.is_same(&self.new)
            && self.key.iter().all(|key| *key == Conversion::Same)
            && self.states.iter().enumerate().all(kept)
    }

    /// Whether states of the stored rows are left behind.
    pub fn drops_states(&self) -> bool {
        let used = self.states.iter().filter(|state| **state != StatePlan::New).count();
        used < self.old.states.len()
    }

    /// Whether only the values can say if they all fit.
    pub fn looks_at_values(&self) -> bool {
        self.states.iter().any(|state| match state {
            StatePlan::Convert { conversion, .. } => may_fail(conversion),
            StatePlan::Migrate { .. } | StatePlan::New => false,
        })
    }
}

fn may_fail(conversion: &Conversion) -> bool {
    let member = |member: &Member| match member {
        Member::From { conversion, .. } => may_fail(conversion),
        Member::Null | Member::Default(_) => false,
    };
    match conversion {
        Conversion::Same | Conversion::Cast => false,
        Conversion::CheckedCast => true,
        Conversion::Struct(members) => members.iter().any(member),
        Conversion::Sum { tags, members } => {
            tags.iter().any(|tag| matches!(tag, TagTo::Refused(_))) || members.iter().any(member)
        }
        Conversion::List(item) => member(item),
        Conversion::Map(key, value) => member(key) || member(value),
    }
}

/// Decides what becomes of everything that is stored. Max parallelisms are those of then and now.
pub fn decide(stored: &[StoredOperator], declared: &[DeclaredOperator], max_parallelism: (u32, u32)) -> Upgrade {
    let mut operators: Vec<OperatorUpgrade> = declared
        .iter()
        .map(|new| match stored.iter().find(|old| old.id == new.id) {
            Some(old) => match_operator(old, new),
            None => OperatorUpgrade::added(new),
        })
        .collect();
    let gone = stored.iter().filter(|old| declared.iter().all(|new| new.id != old.id));
    operators.extend(gone.map(OperatorUpgrade::dropped));
    Upgrade {
        max_parallelism_then: max_parallelism.0,
        max_parallelism_now: max_parallelism.1,
        operators,
    }
}

fn match_operator(old: &StoredOperator, new: &DeclaredOperator) -> OperatorUpgrade {
    let mut upgrade = OperatorUpgrade::matched(old, new);
    if old.splits + old.transactions > 0
        && let Some(reason) = other_connector(old, new)
    {
        upgrade.refuse(reason);
    }
    match (&old.keyed, &new.keyed) {
        (Some(then), Some(now)) => match_states(then, now, &mut upgrade),
        (Some(then), None) => then.states.iter().for_each(|state| upgrade.drop_state(state)),
        (None, Some(now)) => now.states.iter().for_each(|state| upgrade.add_state(state)),
        (None, None) => {}
    }
    upgrade
}

/// Positions and transactions mean something to the connector that made them, and to no other.
fn other_connector(old: &StoredOperator, new: &DeclaredOperator) -> Option<String> {
    let what = match (old.splits, old.transactions) {
        (0, _) => "transactions",
        (_, 0) => "positions",
        (_, _) => "positions and transactions",
    };
    match (&old.connector, &new.connector) {
        (Some(_), None) => Some(format!("it has {what}, and is neither a source nor a sink any more")),
        (Some(then), Some(now)) if then != now => Some(format!(
            "its {what} are of connector `{then}`, and it is of connector `{now}` now"
        )),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

fn match_states(then: &KeyedSchema, now: &KeyedSchema, upgrade: &mut OperatorUpgrade) {
    let windows = then.windows.is_some() && now.windows.is_some();
    if let Some(reason) = other_kind(then.kind, now.kind, windows).or_else(|| other_windows(then, now)) {
        upgrade.refuse(reason);
        return;
    }
    let key = resolve_key(&then.key, &now.key);
    upgrade.match_key(&key);
    let old_names: Vec<&str> = then.states.iter().map(DeclaredState::name).collect();
    let new_names: Vec<(&str, &[String])> = now
        .states
        .iter()
        .map(|state| (state.name(), state.value.hints.aliases.as_slice()))
        .collect();
    let sources = matches_by_name(&old_names, &new_names);
    let mut states = Vec::with_capacity(now.states.len());
    for (state, source) in now.states.iter().zip(&sources) {
        states.push(match source {
            Some(from) => match_state(*from, &then.states[*from], state, upgrade),
            None => {
                upgrade.add_state(state);
                StatePlan::New
            }
        });
    }
    for (at, state) in then.states.iter().enumerate() {
        if !sources.contains(&Some(at)) {
            upgrade.drop_state(state);
        }
    }
    if let Ok(key) = key {
        upgrade.plan = Some(OperatorPlan {
            old: then.clone(),
            new: now.clone(),
            key: key.how,
            states,
        });
    }
}

/// `windows`: both are known to be windows.
fn other_kind(then: KeyedKind, now: KeyedKind, windows: bool) -> Option<String> {
    let text = |kind| match kind {
        KeyedKind::Keyed => "states by key",
        KeyedKind::Windows(_) => "windows of fixed length",
        KeyedKind::Sessions => "sessions",
    };
    match (then, now) {
        (KeyedKind::Keyed, KeyedKind::Keyed) | (KeyedKind::Sessions, KeyedKind::Sessions) => None,
        (KeyedKind::Windows(_), KeyedKind::Windows(_)) => None,
        (then, now) if windows => Some(format!(
            "its windows were kept as {}, and are as {} now: so it is where a trigger or an evictor comes or goes",
            text(then),
            text(now)
        )),
        (then, now) => Some(format!("it kept {} and keeps {} now", text(then), text(now))),
    }
}

/// Rows of windows that are open are in those alone, and some of what others would need is gone.
fn other_windows(then: &KeyedSchema, now: &KeyedSchema) -> Option<String> {
    if let (Some(then), Some(now)) = (&then.windows, &now.windows) {
        return (then != now).then(|| format!("it kept {then}, and keeps {now} now"));
    }
    // Before windows were described, what is stored told of their slices alone.
    match (then.kind, now.kind) {
        (KeyedKind::Windows(Some(then)), KeyedKind::Windows(Some(now))) if then != now => Some(format!(
            "its windows were made of slices of {} ms from {} ms on, and are of slices of {} ms from {} ms on now",
            then.slice_ms, then.offset_ms, now.slice_ms, now.offset_ms
        )),
        _ => None,
    }
}

fn match_state(from: usize, old: &DeclaredState, new: &DeclaredState, upgrade: &mut OperatorUpgrade) -> StatePlan {
    if old.large != new.large {
        upgrade.refuse_state(new, vec![other_size(old.large)]);
        return StatePlan::New; // refused
    }
    if old.broadcast != new.broadcast {
        upgrade.refuse_state(new, vec![other_owner(old.broadcast)]);
        return StatePlan::New; // refused
    }
    let resolved = resolve(&old.value, &new.value);
    let migration = new
        .migrations
        .iter()
        .position(|migration| migration.is_same(&old.value));
    let unchanged = matches!(&resolved, Ok(resolved) if resolved.how == Conversion::Same);
    if let (false, Some(migration)) = (unchanged, migration) {
        upgrade.migrate_state(old, new);
        return StatePlan::Migrate { from, migration };
    }
    match resolved {
        Ok(resolved) => {
            upgrade.convert_state(old, new, resolved.changes);
            let conversion = resolved.how;
            StatePlan::Convert { from, conversion }
        }
        Err(refusals) => {
            upgrade.refuse_state(new, with_migrations(refusals, new));
            StatePlan::New // refused
        }
    }
}

/// Entries that are kept one by one are not gathered, nor whole values taken apart.
fn other_size(was_large: bool) -> Refusal {
    let reason = match was_large {
        true => "it was a large state, whose entries are kept one by one, and is one that is kept as a whole now",
        false => "it was kept as a whole, and is a large state now, whose entries are kept one by one",
    };
    Refusal {
        field: String::new(),
        reason: format!("{reason}; give it another name, and read the old one as long as it holds something"),
    }
}

fn other_owner(was_broadcast: bool) -> Refusal {
    let reason = match was_broadcast {
        true => "it was broadcast state, which belongs to no key, and belongs to keys now",
        false => "it belonged to keys, and is broadcast state now, which belongs to no key",
    };
    Refusal {
        field: String::new(),
        reason: format!("{reason}; give it another name"),
    }
}

/// A migration that does not apply is easily taken for one that does.
fn with_migrations(mut refusals: Vec<Refusal>, new: &DeclaredState) -> Vec<Refusal> {
    if !new.migrations.is_empty() {
        let reason = "none of its migrations is from exactly the stored schema".to_owned();
        let field = String::new();
        refusals.push(Refusal { field, reason });
    }
    refusals
}
