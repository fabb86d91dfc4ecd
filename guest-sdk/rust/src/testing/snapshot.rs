//! Snapshots: everything that a job needs to go on, here or in another version, at this parallelism or another.

use std::collections::{BTreeMap, BTreeSet};

use super::convert::{convert, is_same};
use super::datum::{Column, Datum, Key};
use super::guest::{Guest, StateInfo};
use super::keyed::{KeyTimer, Keyed};
use super::operator::{Body, HeadOperator};
use super::patterns::StoredPatterns;
use super::runner::Runner;
use super::spread::subtask_of;
use super::time::{FIRST, LAST};
use super::windows::{Piece, Windows};
use crate::bindings::dataflow::StateKind;

/// The state of a job at a moment, taken by [`Job::snapshot`](super::Job::snapshot).
///
/// A job goes on from it with [`Job::restore`](super::Job::restore), as often as you like.
#[derive(Debug, Clone)]
pub struct Snapshot {
    now: i64,
    /// By identity of the task's first operator.
    tasks: BTreeMap<String, TaskState>,
}

/// What a task keeps.
#[derive(Debug, Clone, Default)]
struct TaskState {
    /// How many there were.
    subtasks: usize,
    /// Watermark of each split, or of each subtask, and whether it has ended.
    splits: BTreeMap<usize, (i64, bool)>,
    watermark: i64,
    /// By name of the state: its schema, and values by key.
    states: BTreeMap<String, (StateInfo, BTreeMap<Key, Datum>)>,
    deadlines: BTreeMap<(String, Key), i64>,
    timers: BTreeSet<KeyTimer>,
    collections: BTreeMap<String, BTreeMap<Key, BTreeMap<Datum, Datum>>>,
    /// When entries of those expire.
    entry_deadlines: BTreeMap<String, BTreeMap<(Key, Datum), i64>>,
    /// Accumulators of windows, by window and key.
    pieces: BTreeMap<(Key, Piece), Datum>,
    accumulator: Option<StateInfo>,
    unfired: BTreeSet<(Key, Piece)>,
    /// The windows that the states or pieces are of, in words.
    windows: Option<String>,
    patterns: Option<StoredPatterns>,
}

impl TaskState {
    /// Whether something would be lost without it.
    fn holds(&self) -> bool {
        let begun = self.patterns.as_ref().is_some_and(|patterns| !patterns.is_empty());
        begun || !self.pieces.is_empty() || self.states.values().any(|(_, values)| !values.is_empty())
    }
}

impl Snapshot {
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// Of a job in which nothing is under way.
    pub(crate) fn take(runner: &mut Runner) -> Snapshot {
        let tasks = (0..runner.subtasks.len())
            .map(|task| (identity(runner, task), take_task(runner, task)))
            .collect();
        Snapshot { now: runner.now, tasks }
    }

    /// Gives a job that has just begun what this holds.
    pub(crate) fn give(&self, runner: &mut Runner) -> Result<(), String> {
        let known: Vec<String> = (0..runner.subtasks.len()).map(|task| identity(runner, task)).collect();
        for (name, state) in &self.tasks {
            if state.holds() && !known.contains(name) {
                return Err(format!("the state of `{name}` is lost: there is no such operator"));
            }
        }
        for (task, name) in known.iter().enumerate() {
            if let Some(state) = self.tasks.get(name) {
                give_task(runner, task, state).map_err(|error| format!("`{name}`: {error}"))?;
            }
        }
        Ok(())
    }
}

/// The uid of a task, or else its name with a number.
fn identity(runner: &Runner, task: usize) -> String {
    let operators = &runner.graph.operators;
    let number = runner.plan.tasks[task].operator as usize;
    let operator = &operators[number];
    let before = operators[..number].iter().filter(|other| other.name == operator.name);
    match &operator.uid {
        Some(uid) => uid.clone(),
        None => format!("{} ({})", operator.name, before.count()),
    }
}

fn take_task(runner: &mut Runner, task: usize) -> TaskState {
    let mut state = TaskState {
        watermark: LAST,
        subtasks: runner.subtasks[task].len(),
        ..TaskState::default()
    };
    for subtask in 0..runner.subtasks[task].len() {
        match &runner.subtasks[task][subtask].body {
            Body::Source { splits, .. } => {
                for split in splits {
                    let watermark = split.generator.as_ref().map_or(FIRST, |generator| generator.watermark);
                    state.splits.insert(split.number, (watermark, split.has_ended));
                }
            }
            Body::Watermarks { generator, .. } => drop(state.splits.insert(subtask, (generator.watermark, false))),
            Body::Chain { watermark, .. } => {
                state.watermark = state.watermark.min(*watermark);
                runner.with_chain(task, subtask, |head, guest| {
                    state.windows = guest.info.windows();
                    take_chain(head, guest, &mut state);
                });
            }
            Body::Passing | Body::Requests | Body::Lookup | Body::Sink => {}
        }
    }
    state
}

fn take_chain(head: &HeadOperator, guest: &mut Guest<'_>, state: &mut TaskState) {
    match head {
        HeadOperator::Stateless => {}
        HeadOperator::Keyed(keyed) => take_keyed(keyed, guest, state),
        HeadOperator::Windows(windows) => {
            let slots: Vec<u32> = windows.pieces.values().copied().collect();
            let values = guest.export(0, &slots);
            state.accumulator = Some(guest.info.states[0].clone());
            state.pieces.extend(windows.pieces.keys().cloned().zip(values));
            state.unfired.extend(windows.unfired.iter().cloned());
        }
        HeadOperator::Patterns(patterns) => patterns.store(&guest.info.inputs[0], &mut state.patterns),
    }
}

fn take_keyed(keyed: &Keyed, guest: &mut Guest<'_>, state: &mut TaskState) {
    state.timers.extend(keyed.timers.iter().cloned());
    for (number, info) in guest.info.states.iter().enumerate() {
        let name = &info.declared.name;
        if let Some(collection) = keyed.collections.get(&(number as u32)) {
            let entries = collection.entries.clone();
            state.collections.entry(name.clone()).or_default().extend(entries);
            let deadlines = collection.deadlines.clone();
            state.entry_deadlines.entry(name.clone()).or_default().extend(deadlines);
        }
        let values = match info.is_large {
            true => BTreeMap::new(),
            false => keyed.export(guest, number),
        };
        let known = state.states.entry(name.clone());
        let (_, known) = known.or_insert_with(|| (info.clone(), BTreeMap::new()));
        known.extend(values);
    }
    for ((key, number), deadline) in &keyed.deadlines {
        let name = guest.info.states[*number].declared.name.clone();
        state.deadlines.insert((name, key.clone()), *deadline);
    }
}

fn give_task(runner: &mut Runner, task: usize, state: &TaskState) -> Result<(), String> {
    let subtasks = runner.subtasks[task].len();
    for subtask in 0..subtasks {
        match &mut runner.subtasks[task][subtask].body {
            Body::Source { splits, .. } => {
                for split in splits {
                    let Some((watermark, has_ended)) = state.splits.get(&split.number) else {
                        continue;
                    };
                    split.has_ended = *has_ended;
                    if let Some(generator) = &mut split.generator {
                        generator.raise(*watermark);
                    }
                }
            }
            Body::Watermarks { generator, .. } => {
                // Where the number of subtasks changes, the least that any of them has said.
                let same = state.splits.get(&subtask).filter(|_| state.splits.len() == subtasks);
                let least = state.splits.values().map(|split| split.0).min().unwrap_or(FIRST);
                generator.raise(same.map_or(least, |split| split.0));
            }
            Body::Chain { watermark, .. } => {
                let is_drained = state.watermark == LAST;
                *watermark = if is_drained { FIRST } else { state.watermark };
                let owns = |key: &Key| subtask_of(key, subtasks) == subtask;
                runner.with_chain(task, subtask, |head, guest| {
                    check_windows(head, guest, state)?;
                    match head {
                        HeadOperator::Stateless => Ok(()),
                        HeadOperator::Keyed(keyed) => give_keyed(keyed, guest, state, owns, subtasks),
                        HeadOperator::Windows(_) if is_drained => Ok(()),
                        HeadOperator::Windows(windows) => give_windows(windows, guest, state, owns),
                        HeadOperator::Patterns(patterns) => match &state.patterns {
                            Some(stored) => patterns.restore(guest, stored, owns),
                            None => Ok(()),
                        },
                    }
                })?;
            }
            Body::Passing | Body::Requests | Body::Lookup | Body::Sink => {}
        }
    }
    Ok(())
}

/// Windows do not change, as with the host.
fn check_windows(head: &HeadOperator, guest: &Guest<'_>, state: &TaskState) -> Result<(), String> {
    if let (Some(then), Some(now)) = (&state.windows, &guest.info.windows())
        && then != now
    {
        return Err(format!("it kept {then}, and keeps {now} now"));
    }
    let (were, are) = match head {
        HeadOperator::Windows(_) if !state.states.is_empty() => ("the pipeline's", "the host's"),
        HeadOperator::Keyed(_) if state.accumulator.is_some() => ("the host's", "the pipeline's"),
        _ => return Ok(()),
    };
    Err(format!(
        "its windows were {were} and are {are} now, which keep them in other ways: so it is where a trigger comes or goes"
    ))
}

fn give_keyed(
    keyed: &mut Keyed,
    guest: &mut Guest<'_>,
    state: &TaskState,
    owns: impl Fn(&Key) -> bool,
    subtasks: usize,
) -> Result<(), String> {
    for number in 0..guest.info.states.len() {
        let info = &guest.info.states[number];
        let Some(name) = stored_name(info, |name| state.states.contains_key(name)) else {
            continue;
        };
        let (old, values) = &state.states[&name];
        if let Some(collection) = keyed.collections.get_mut(&(number as u32)) {
            let entries = state.collections.get(&name).into_iter().flatten();
            let is_broadcast = collection.is_broadcast();
            let own = entries.filter(|(key, _)| is_broadcast || owns(key));
            let known = state.entry_deadlines.get(&name);
            for (key, entries) in own {
                let known = |entry: &Datum| known?.get(&(key.clone(), entry.clone())).copied();
                for entry in entries.keys() {
                    if let Some(begun) = collection.renewed(guest.at.now) {
                        let deadline = known(entry).unwrap_or(begun);
                        collection.deadlines.insert((key.clone(), entry.clone()), deadline);
                    }
                }
                collection.entries.insert(key.clone(), entries.clone());
            }
            continue;
        }
        if let Some(key) = keyed.own_key.clone() {
            let all: Vec<Datum> = values.values().cloned().collect();
            let all = values
                .keys()
                .cloned()
                .zip(converted(guest, number, old, all)?)
                .collect();
            give_unkeyed(keyed, guest, number, &key, &all, (state.subtasks, subtasks));
            continue;
        }
        let own = values.iter().filter(|(key, _)| owns(key));
        let (keys, values): (Vec<Key>, Vec<Datum>) = own.map(|(key, value)| (key.clone(), value.clone())).unzip();
        let values = converted(guest, number, old, values)?;
        for (key, value) in keys.iter().zip(values) {
            keyed.import(guest, number, key, value);
            if let Some(ttl) = &guest.info.states[number].declared.ttl {
                let begun = guest
                    .at
                    .now
                    .saturating_add(i64::try_from(ttl.after_ms).unwrap_or(i64::MAX));
                let known = state.deadlines.get(&(name.clone(), key.clone()));
                let deadline = known.copied().unwrap_or(begun);
                keyed.deadlines.insert((key.clone(), number), deadline);
            }
        }
    }
    for timer in state.timers.iter().filter(|timer| owns(&timer.2)) {
        keyed.slot(&timer.2);
        keyed.set_timer(timer.clone());
    }
    Ok(())
}

/// Gives a subtask its list, or, if there were more or fewer subtasks, its share of the items of all.
fn give_unkeyed(
    keyed: &mut Keyed,
    guest: &mut Guest<'_>,
    state: usize,
    key: &Key,
    lists: &BTreeMap<Key, Datum>,
    (before, subtasks): (usize, usize),
) {
    let all: Vec<Datum> = lists.values().flat_map(|list| list.items().to_vec()).collect();
    if guest.info.states[state].declared.kind == StateKind::UnionList && !all.is_empty() {
        guest.import(state, &[1], &[Datum::List(all.clone())]);
    }
    let own = match before == subtasks {
        true => lists.get(key).map_or(Vec::new(), |list| list.items().to_vec()),
        false => {
            let subtask = key[0].integer() as usize;
            let start = |subtask: usize| all.len() * subtask / subtasks;
            all[start(subtask)..start(subtask + 1)].to_vec()
        }
    };
    if !own.is_empty() {
        keyed.import(guest, state, key, Datum::List(own));
    }
}

fn give_windows(
    windows: &mut Windows,
    guest: &mut Guest<'_>,
    state: &TaskState,
    owns: impl Fn(&Key) -> bool,
) -> Result<(), String> {
    windows.watermark = state.watermark;
    let Some(old) = &state.accumulator else { return Ok(()) };
    let own: Vec<(&(Key, Piece), &Datum)> = state.pieces.iter().filter(|((key, _), _)| owns(key)).collect();
    let values = own.iter().map(|(_, value)| (*value).clone()).collect();
    let values = converted(guest, 0, old, values)?;
    for ((piece, _), value) in own.into_iter().zip(values) {
        windows.import(guest, piece.clone(), value);
    }
    let unfired = state.unfired.iter().filter(|(key, _)| owns(key));
    windows.unfired.extend(unfired.cloned());
    Ok(())
}

/// The name under which a state was stored: its own, or one that it had.
fn stored_name(info: &StateInfo, is_stored: impl Fn(&str) -> bool) -> Option<String> {
    let mut names = std::iter::once(&info.declared.name).chain(&info.declared.aliases);
    names.find(|name| is_stored(name)).cloned()
}

/// Values of an earlier version: as they are, migrated by the guest, or converted by names.
fn converted(guest: &mut Guest<'_>, state: usize, old: &StateInfo, values: Vec<Datum>) -> Result<Vec<Datum>, String> {
    let info = &guest.info.states[state];
    if is_same(&old.columns, &info.columns, true) && variants(&old.columns) == variants(&info.columns) {
        return Ok(values);
    }
    let migration = info
        .migrations
        .iter()
        .position(|schema| is_same(schema, &old.columns, true));
    if let Some(migration) = migration {
        return Ok(guest.migrate(state, migration, &values));
    }
    let values = values.iter();
    let values = values.map(|value| convert(&old.columns[0], &info.columns[0], value));
    let values = values.collect::<Result<_, _>>();
    values.map_err(|error| format!("state `{}`: {error}", info.declared.name))
}

/// Names of the variants of all enums.
fn variants(columns: &[Column]) -> Vec<String> {
    let of = |column: &Column| {
        let mut names: Vec<String> = column
            .field
            .variants
            .iter()
            .map(|variant| variant.name.clone())
            .collect();
        names.extend(variants(&column.children));
        names
    };
    columns.iter().flat_map(of).collect()
}
