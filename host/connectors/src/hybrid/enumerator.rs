//! When the second source begins, and who reads it.
//!
//! One is made for each attempt of a job. It knows which splits of the first source have not ended, on all subtasks;
//! when none is left it asks the second source for its splits, once, and gives them out. What a checkpoint holds of
//! them already is not given again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_core::Result;
use millrace_core::connector::{Elapsed, Enumerated, Position, Source, Split, SplitEnumerator};

use super::reader::Place;
use super::{FIRST, THEN};

/// How often a subtask looks whether the others are through.
const SWITCH_INTERVAL: Duration = Duration::from_millis(20);

/// See the module's documentation.
pub(super) struct HybridEnumerator {
    first: Option<Arc<dyn SplitEnumerator>>,
    then: Arc<dyn Source>,
    parallelism: u32,
    state: Mutex<State>,
}

struct State {
    /// Splits of the first source.
    unfinished: BTreeSet<String>,
    /// Subtasks that may still get splits of the first source.
    expecting: BTreeSet<u32>,
    /// Splits of the second source that a checkpoint holds, by subtask, with their own positions.
    known: Vec<(u32, Split)>,
    /// Names of all of them, if a checkpoint says so.
    all: Option<Vec<String>>,
    /// Splits of the second source that ended before its enumerator was made.
    ended: Vec<String>,
    switched: Option<Switched>,
}

struct Switched {
    enumerator: Option<Arc<dyn SplitEnumerator>>,
    /// What each subtask is to be given.
    given: Vec<Vec<Split>>,
}

impl HybridEnumerator {
    /// An attempt begins with these splits.
    pub(super) fn new(
        first: &Arc<dyn Source>,
        then: &Arc<dyn Source>,
        splits: &[(u32, Split)],
        parallelism: u32,
    ) -> Result<Self> {
        let (mut firsts, mut known, mut all) = (Vec::new(), Vec::new(), None);
        let mut unfinished = BTreeSet::new();
        for (subtask, split) in splits {
            let place = Place::decode(&split.position)?;
            let mut inner = |id: &str| {
                let position = match place.clone() {
                    Place::Finished => Position::START,
                    Place::At { position, all: names } => {
                        all = all.take().or(Some(names).filter(|names| !names.is_empty()));
                        position
                    }
                };
                let id = id.to_owned();
                (*subtask, Split { id, position })
            };
            if let Some(id) = split.id.strip_prefix(FIRST) {
                unfinished.insert(id.to_owned());
                firsts.push(inner(id));
            } else if let Some(id) = split.id.strip_prefix(THEN) {
                known.push(inner(id));
            }
        }
        let first = first.enumerator(&firsts, parallelism)?;
        let expecting = first.iter().flat_map(|_| 0..parallelism).collect();
        Ok(HybridEnumerator {
            first,
            then: then.clone(),
            parallelism,
            state: Mutex::new(State {
                unfinished,
                expecting,
                known,
                all,
                ended: Vec::new(),
                switched: None,
            }),
        })
    }

    /// Splits of the first source that have turned up.
    fn poll_first(&self, state: &mut State, subtask: u32, now: Elapsed) -> Result<Enumerated> {
        let mut told = Enumerated::default();
        if let Some(first) = self.first.as_ref().filter(|_| state.expecting.contains(&subtask)) {
            told = first.poll(subtask, now)?;
            if told.next.is_none() {
                state.expecting.remove(&subtask);
            }
            let ids = told.splits.iter().map(|split| split.id.clone());
            state.unfinished.extend(ids);
        }
        Ok(prefixed(told, FIRST))
    }

    fn switch(&self, state: &State) -> Result<Switched> {
        let known: BTreeSet<&str> = state.known.iter().map(|(_, split)| split.id.as_str()).collect();
        let begin = |id: &String| Split {
            id: id.clone(),
            position: Position::START,
        };
        let all: Vec<Split> = match &state.all {
            Some(all) => all.iter().map(begin).collect(),
            None => self.then.splits(self.parallelism)?,
        };
        let names: Vec<String> = all.iter().map(|split| split.id.clone()).collect();
        let new = all.into_iter().filter(|split| !known.contains(split.id.as_str()));
        let new: Vec<(u32, Split)> = (0..self.parallelism).cycle().zip(new).collect();
        let assigned: Vec<(u32, Split)> = state.known.iter().chain(&new).cloned().collect();
        let enumerator = self.then.enumerator(&assigned, self.parallelism)?;
        if let Some(enumerator) = &enumerator {
            state.ended.iter().for_each(|id| enumerator.handle_end(id));
        }
        let mut given = vec![Vec::new(); self.parallelism as usize];
        for (subtask, split) in new {
            let given: &mut Vec<Split> = &mut given[subtask as usize];
            let all = if given.is_empty() { names.clone() } else { Vec::new() };
            let position = split.position;
            given.push(Split {
                id: format!("{THEN}{}", split.id),
                position: Place::At { position, all }.encode(),
            });
        }
        Ok(Switched { enumerator, given })
    }
}

/// What an enumerator said, with the names of splits as they are outside.
fn prefixed(mut told: Enumerated, prefix: &str) -> Enumerated {
    for split in &mut told.splits {
        split.id.insert_str(0, prefix);
        split.position = Place::At {
            position: std::mem::take(&mut split.position),
            all: Vec::new(),
        }
        .encode();
    }
    told.forget.iter_mut().for_each(|id| id.insert_str(0, prefix));
    told
}

impl SplitEnumerator for HybridEnumerator {
    fn poll(&self, subtask: u32, now: Elapsed) -> Result<Enumerated> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = self.poll_first(&mut state, subtask, now)?;
        if state.switched.is_none() && state.unfinished.is_empty() && state.expecting.is_empty() {
            state.switched = Some(self.switch(&state)?);
        }
        let Some(switched) = &mut state.switched else {
            let next = told.next.unwrap_or(SWITCH_INTERVAL).min(SWITCH_INTERVAL);
            told.next = Some(next);
            return Ok(told);
        };
        told.splits.append(&mut switched.given[subtask as usize]);
        told.next = None;
        if let Some(enumerator) = &switched.enumerator {
            let then = prefixed(enumerator.poll(subtask, now)?, THEN);
            told.splits.extend(then.splits);
            told.forget.extend(then.forget);
            told.next = then.next;
        }
        Ok(told)
    }

    fn pending(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = |enumerator: Option<&Arc<dyn SplitEnumerator>>, prefix: &str| -> Vec<String> {
            let pending = enumerator.map_or(Vec::new(), |enumerator| enumerator.pending());
            pending.into_iter().map(|id| format!("{prefix}{id}")).collect()
        };
        let mut pending = inner(self.first.as_ref(), FIRST);
        if let Some(Switched { enumerator, given }) = &state.switched {
            pending.extend(given.iter().flatten().map(|split| split.id.clone()));
            pending.extend(inner(enumerator.as_ref(), THEN));
        }
        pending
    }

    fn handle_end(&self, split: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = split.strip_prefix(FIRST) {
            state.unfinished.remove(id);
            if let Some(first) = &self.first {
                first.handle_end(id);
            }
        } else if let Some(id) = split.strip_prefix(THEN) {
            match &state.switched {
                Some(Switched { enumerator, .. }) => enumerator.iter().for_each(|then| then.handle_end(id)),
                None => state.ended.push(id.to_owned()),
            }
        }
    }

    fn handle_complete(&self, subtask: u32, splits: &[Split]) -> Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let then = state
            .switched
            .as_ref()
            .and_then(|switched| switched.enumerator.as_ref());
        for (prefix, enumerator) in [(FIRST, self.first.as_ref()), (THEN, then)] {
            let Some(enumerator) = enumerator else { continue };
            let own = splits.iter().filter_map(|split| own_split(split, prefix).transpose());
            enumerator.handle_complete(subtask, &own.collect::<Result<Vec<_>>>()?)?;
        }
        Ok(())
    }
}

/// A split as the source knows it whose splits have this prefix; `None`: it is the other's.
fn own_split(split: &Split, prefix: &str) -> Result<Option<Split>> {
    let Some(id) = split.id.strip_prefix(prefix) else {
        return Ok(None);
    };
    Ok(match Place::decode(&split.position)? {
        Place::At { position, .. } => Some(Split {
            id: id.to_owned(),
            position,
        }),
        // Where its end was is not known any more.
        Place::Finished => None,
    })
}
