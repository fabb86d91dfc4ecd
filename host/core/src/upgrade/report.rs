//! What becomes of each operator and state, for people and for who starts the job.

use serde::Serialize;

use super::{DeclaredOperator, OperatorPlan, StoredOperator};
use crate::error::Error;
use crate::schema::{Change, Conversion, DeclaredState, Refusal, Resolved};

/// What becomes of everything that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upgrade {
    /// Number of key groups of what is stored.
    pub max_parallelism_then: u32,
    /// Number of key groups of the job.
    pub max_parallelism_now: u32,
    /// Those of the pipeline in its order, then those that it does not have.
    pub operators: Vec<OperatorUpgrade>,
}

/// What becomes of an operator or a state. Later ones outweigh earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It goes on as it is.
    Kept,
    /// Nothing is stored of it: it begins empty.
    New,
    /// It is converted by the rules.
    Converted,
    /// The guest converts it.
    Migrated,
    /// It is stored and the pipeline does not have it.
    Dropped,
    /// It cannot go on.
    Incompatible,
}

impl Outcome {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Kept => "kept",
            Outcome::New => "new",
            Outcome::Converted => "converted",
            Outcome::Migrated => "migrated",
            Outcome::Dropped => "dropped",
            Outcome::Incompatible => "incompatible",
        }
    }
}

/// What becomes of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorUpgrade {
    /// Its identity.
    pub id: String,
    /// Its name now; of a dropped one what it was.
    pub name: String,
    /// The weightiest of its key, its states and itself.
    pub outcome: Outcome,
    /// Number of subtasks that it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism_then: Option<u32>,
    /// Number of subtasks that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism_now: Option<u32>,
    /// Splits whose positions it goes on from.
    pub splits: usize,
    /// Prepared transactions, which are committed at the start.
    pub transactions: usize,
    /// Whether leaving it behind loses something.
    pub holds_state: bool,
    /// Why it cannot go on, beside what is said of its key and states.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Its key, if that changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<StateUpgrade>,
    /// Its states: declared ones in order, then dropped ones.
    pub states: Vec<StateUpgrade>,
    /// How its rows are converted, if it kept and keeps something by key.
    #[serde(skip)]
    pub plan: Option<OperatorPlan>,
}

/// What becomes of a state, or of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateUpgrade {
    /// Its name now; of a dropped one what it was.
    pub name: String,
    /// What becomes of it.
    pub outcome: Outcome,
    /// What conversion does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Why it cannot be converted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Refusal>,
}

/// What a key is called beside states.
const KEY: &str = "key";

impl Upgrade {
    /// The operator of this identity.
    pub fn operator(&self, id: &str) -> Option<&OperatorUpgrade> {
        self.operators.iter().find(|operator| operator.id == id)
    }

    /// Why a job cannot begin so; `what` names what it would begin with. `may_lose`: state that the pipeline does
    /// not have may be left behind.
    ///
    /// `CK0012`: the number of key groups changed. `CK0010`: something cannot be converted. `CK0011`: something
    /// would be lost.
    pub fn refusal(&self, what: &str, may_lose: bool) -> Option<Error> {
        let (then, now) = (self.max_parallelism_then, self.max_parallelism_now);
        if then != now {
            let message =
                format!("{what} has {then} key groups (max parallelism), the job now has {now}; they cannot change");
            return Some(Error::user("CK0012", message));
        }
        let reasons: Vec<String> = self.operators.iter().flat_map(OperatorUpgrade::refusals).collect();
        if !reasons.is_empty() {
            let reasons = reasons.join("; ");
            return Some(Error::user(
                "CK0010",
                format!("{what} does not fit the pipeline: {reasons}"),
            ));
        }
        let lost: Vec<String> = self.operators.iter().flat_map(OperatorUpgrade::losses).collect();
        if may_lose || lost.is_empty() {
            return None;
        }
        Some(Error::user("CK0011", format!("{what} holds {}", lost.join("; and "))))
    }
}

impl OperatorUpgrade {
    fn new(id: &str, name: &str, outcome: Outcome) -> Self {
        OperatorUpgrade {
            id: id.to_owned(),
            name: name.to_owned(),
            outcome,
            parallelism_then: None,
            parallelism_now: None,
            splits: 0,
            transactions: 0,
            holds_state: false,
            reasons: Vec::new(),
            key: None,
            states: Vec::new(),
            plan: None,
        }
    }

    pub(super) fn added(new: &DeclaredOperator) -> Self {
        let mut upgrade = OperatorUpgrade::new(&new.id, &new.name, Outcome::New);
        upgrade.parallelism_now = Some(new.parallelism);
        let states = new.keyed.iter().flat_map(|keyed| &keyed.states);
        states.for_each(|state| upgrade.add_state(state));
        upgrade
    }

    pub(super) fn dropped(old: &StoredOperator) -> Self {
        let mut upgrade = OperatorUpgrade::new(&old.id, &old.name, Outcome::Dropped);
        upgrade.keep_facts(old);
        let states = old.keyed.iter().flat_map(|keyed| &keyed.states);
        states.for_each(|state| upgrade.drop_state(state));
        upgrade
    }

    pub(super) fn matched(old: &StoredOperator, new: &DeclaredOperator) -> Self {
        let mut upgrade = OperatorUpgrade::new(&new.id, &new.name, Outcome::Kept);
        upgrade.keep_facts(old);
        upgrade.parallelism_now = Some(new.parallelism);
        upgrade
    }

    fn keep_facts(&mut self, old: &StoredOperator) {
        self.parallelism_then = Some(old.parallelism);
        self.splits = old.splits;
        self.transactions = old.transactions;
        self.holds_state = old.holds_state;
    }

    pub(super) fn refuse(&mut self, reason: String) {
        self.outcome = Outcome::Incompatible;
        self.reasons.push(reason);
    }

    pub(super) fn match_key(&mut self, key: &Result<Resolved<Vec<Conversion>>, Vec<Refusal>>) {
        let (outcome, changes, reasons) = match key {
            Ok(resolved) if resolved.changes.is_empty() => return,
            Ok(resolved) => (Outcome::Converted, resolved.changes.clone(), Vec::new()),
            Err(reasons) => (Outcome::Incompatible, Vec::new(), reasons.clone()),
        };
        self.outcome = self.outcome.max(outcome);
        self.key = Some(StateUpgrade {
            name: KEY.to_owned(),
            outcome,
            changes,
            reasons,
        });
    }

    pub(super) fn add_state(&mut self, state: &DeclaredState) {
        self.state(state.name(), Outcome::New, Vec::new(), Vec::new());
    }

    pub(super) fn drop_state(&mut self, state: &DeclaredState) {
        self.state(state.name(), Outcome::Dropped, Vec::new(), Vec::new());
    }

    pub(super) fn migrate_state(&mut self, old: &DeclaredState, new: &DeclaredState) {
        let mut changes = renamed(old, new);
        changes.extend(other_lifetime(old, new));
        self.state(new.name(), Outcome::Migrated, changes, Vec::new());
    }

    pub(super) fn convert_state(&mut self, old: &DeclaredState, new: &DeclaredState, more: Vec<Change>) {
        let mut changes = renamed(old, new);
        changes.extend(more);
        // Rows say when a state expires, not how long it lives: with another time to live they stay as they are.
        let same_rows = changes.is_empty() && old.ttl.is_some() == new.ttl.is_some();
        changes.extend(other_lifetime(old, new));
        let outcome = match same_rows {
            true => Outcome::Kept,
            false => Outcome::Converted,
        };
        self.state(new.name(), outcome, changes, Vec::new());
    }

    pub(super) fn refuse_state(&mut self, new: &DeclaredState, reasons: Vec<Refusal>) {
        self.state(new.name(), Outcome::Incompatible, Vec::new(), reasons);
    }

    fn state(&mut self, name: &str, outcome: Outcome, changes: Vec<Change>, reasons: Vec<Refusal>) {
        // An operator that gains a state goes on; one that loses one changes.
        let weight = match outcome {
            Outcome::New | Outcome::Kept => self.outcome,
            Outcome::Dropped => Outcome::Converted,
            Outcome::Converted | Outcome::Migrated | Outcome::Incompatible => outcome,
        };
        self.outcome = self.outcome.max(weight);
        self.states.push(StateUpgrade {
            name: name.to_owned(),
            outcome,
            changes,
            reasons,
        });
    }

    fn shown(&self) -> String {
        format!("operator `{}` (id `{}`)", self.name, self.id)
    }

    fn refusals(&self) -> Vec<String> {
        let shown = self.shown();
        let own = self.reasons.iter().map(|reason| format!("{shown}: {reason}"));
        let key = self.key.iter().flat_map(|key| &key.reasons);
        let key = key.map(|reason| format!("{shown}, key: {reason}"));
        let states = self.states.iter().flat_map(|state| {
            let reasons = state.reasons.iter();
            reasons.map(|reason| format!("{shown}, state `{}`: {reason}", state.name))
        });
        own.chain(key).chain(states).collect()
    }

    fn losses(&self) -> Vec<String> {
        let shown = self.shown();
        if self.outcome == Outcome::Dropped {
            let loss = format!("state of {shown}, which the pipeline does not have");
            return if self.holds_state { vec![loss] } else { Vec::new() };
        }
        let dropped = self.states.iter().filter(|state| state.outcome == Outcome::Dropped);
        let dropped = dropped.filter(|_| self.holds_state);
        dropped
            .map(|state| format!("state `{}` of {shown}, which it does not declare", state.name))
            .collect()
    }
}

fn renamed(old: &DeclaredState, new: &DeclaredState) -> Vec<Change> {
    if old.name() == new.name() {
        return Vec::new();
    }
    vec![Change {
        field: String::new(),
        what: format!("renamed from `{}`", old.name()),
    }]
}

fn other_lifetime(old: &DeclaredState, new: &DeclaredState) -> Option<Change> {
    let what = match (old.ttl, new.ttl) {
        (None, None) => return None,
        (Some(then), Some(now)) if then == now => return None,
        (Some(then), Some(now)) => format!("its time to live is {now}, and was {then}: as soon as it is renewed"),
        (None, Some(now)) => format!("its time to live is {now}, and begins at the start"),
        (Some(_), None) => "it has no time to live any more: what has not expired stays".to_owned(),
    };
    let field = String::new();
    Some(Change { field, what })
}
