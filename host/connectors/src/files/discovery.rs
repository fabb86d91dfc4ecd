//! Files that come while a job runs: which they are, when they are taken, and who reads them.
//!
//! The folder or glob is looked through at an interval. A file that is followed becomes a split at once; one that is
//! taken as a whole when two looks in a row have found it the same. The name of a split is the file's path then and its
//! identity: `logs/a.log@2f1-18a0`, so that a file that is renamed stays the same and one that replaces it is another.
//!
//! A file is remembered, in checkpoints too, for as long as it is there: `files.max` bounds how many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millrace_core::connector::{Elapsed, Enumerated, Options, Position, Split, SplitEnumerator};
use millrace_core::{Error, Result};

use super::listing::{self, Found};

/// Position of a split that was read to its end.
pub(crate) const FINISHED: &[u8] = b"finished";

/// How a source looks for files while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    /// Files are read as they grow, where their format allows it; otherwise each is taken as a whole.
    pub(crate) follows: bool,
    /// From one look to the next.
    pub(crate) interval: Duration,
    /// Files at most that are there at a time.
    pub(crate) files_max: usize,
}

impl Watch {
    /// Takes `mode` and what goes with it; `None`: what is there at the start is read, and that is all.
    pub(crate) fn take(options: &mut Options) -> Result<Option<Self>> {
        let follows = match options.text("mode").as_deref() {
            None | Some("once") => return Ok(None),
            Some("watch") => false,
            Some("follow") => true,
            Some(mode) => {
                let message = format!("option `mode` is `{mode}`, not one of once, watch, follow");
                return Err(Error::user("CN0108", message));
            }
        };
        let interval_ms = options.parsed("scan.ms", "a number of milliseconds")?.unwrap_or(1_000);
        let files_max = options.parsed("files.max", "a number of files")?.unwrap_or(10_000);
        if interval_ms == 0 || files_max == 0 {
            return Err(Error::user(
                "CN0003",
                "options `scan.ms` and `files.max` are at least 1",
            ));
        }
        Ok(Some(Watch {
            follows,
            interval: Duration::from_millis(interval_ms),
            files_max,
        }))
    }
}

/// The name of a split.
fn name(found: &Found) -> String {
    format!("{}@{}", found.path, found.identity)
}

/// Path and identity that a split's name says.
pub(crate) fn parse(split: &str) -> Result<(&str, &str)> {
    split.rsplit_once('@').ok_or_else(|| {
        let message = format!(
            "`{split}` was read by a source of files without option `mode`, and such positions do not fit one that watches \
             for files: give the source another uid, or begin anew"
        );
        Error::user("CN0103", message)
    })
}

/// Where a file is now: under its path of old, or wherever `pattern` finds it.
pub(crate) fn locate(path: &str, identity: &str, pattern: &str) -> Result<Option<Found>> {
    let here = listing::find(path).filter(|found| found.identity == identity);
    match here {
        Some(found) => Ok(Some(found)),
        None => Ok(listing::scan(pattern)?
            .into_iter()
            .find(|found| found.identity == identity)),
    }
}

/// See the module's documentation.
pub(crate) struct FilesEnumerator {
    path: String,
    watch: Watch,
    /// Whether a file of this path is read while it grows.
    is_followed: Box<dyn Fn(&str) -> bool + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When to look next.
    next: Elapsed,
    /// By identity.
    known: BTreeMap<String, Known>,
    /// Length and time of change of files that may still be being written, by identity.
    settling: BTreeMap<String, (u64, u128)>,
    /// What each subtask is to be told.
    subtasks: Vec<Enumerated>,
}

struct Known {
    split: String,
    subtask: usize,
    ended: bool,
}

impl FilesEnumerator {
    /// An attempt begins with these splits.
    pub(crate) fn new(
        path: &str,
        watch: Watch,
        is_followed: impl Fn(&str) -> bool + Send + Sync + 'static,
        splits: &[(u32, Split)],
        parallelism: u32,
    ) -> Result<Self> {
        let mut state = State::default();
        for (subtask, split) in splits {
            let known = Known {
                split: split.id.clone(),
                subtask: *subtask as usize,
                ended: split.position.0 == FINISHED,
            };
            state.known.insert(parse(&split.id)?.1.to_owned(), known);
        }
        state.subtasks.resize_with(parallelism as usize, Enumerated::default);
        Ok(FilesEnumerator {
            path: path.to_owned(),
            watch,
            is_followed: Box::new(is_followed),
            state: Mutex::new(state),
        })
    }

    fn look(&self, state: &mut State) -> Result<()> {
        let found = listing::scan(&self.path)?;
        let present: BTreeSet<&str> = found.iter().map(|found| found.identity.as_str()).collect();
        let State { known, subtasks, .. } = state;
        known.retain(|identity, known| {
            let stays = !known.ended || present.contains(identity.as_str());
            if !stays {
                subtasks[known.subtask].forget.push(known.split.clone());
            }
            stays
        });
        let settling = std::mem::take(&mut state.settling);
        for found in found.iter().filter(|found| !found.identity.is_empty()) {
            if state.known.contains_key(&found.identity) {
                continue;
            }
            let now = (found.bytes, found.modified_ns);
            if (self.is_followed)(&found.path) || settling.get(&found.identity) == Some(&now) {
                state.give(found);
            } else {
                state.settling.insert(found.identity.clone(), now);
            }
        }
        if state.known.len() > self.watch.files_max {
            let message = format!(
                "`{}`: {} files are there, and a source that watches for files remembers {} at most: move those that were \
                 read elsewhere, or raise option `files.max`",
                self.path,
                state.known.len(),
                self.watch.files_max
            );
            return Err(Error::user("CN0117", message));
        }
        Ok(())
    }
}

impl State {
    /// Gives a file to the subtask that has the fewest.
    fn give(&mut self, found: &Found) {
        let mut open = vec![0; self.subtasks.len()];
        for known in self.known.values().filter(|known| !known.ended) {
            open[known.subtask] += 1;
        }
        let subtask = (0..open.len()).min_by_key(|subtask| open[*subtask]).unwrap_or(0);
        let split = name(found);
        self.subtasks[subtask].splits.push(Split {
            id: split.clone(),
            position: Position::START,
        });
        let known = Known {
            split,
            subtask,
            ended: false,
        };
        self.known.insert(found.identity.clone(), known);
    }
}

impl SplitEnumerator for FilesEnumerator {
    fn poll(&self, subtask: u32, now: Elapsed) -> Result<Enumerated> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= state.next {
            self.look(&mut state)?;
            state.next = now + self.watch.interval;
        }
        let told = std::mem::take(&mut state.subtasks[subtask as usize]);
        Ok(Enumerated {
            next: Some(self.watch.interval),
            ..told
        })
    }

    fn pending(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let splits = state.subtasks.iter().flat_map(|told| &told.splits);
        splits.map(|split| split.id.clone()).collect()
    }

    fn handle_end(&self, split: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok((_, identity)) = parse(split)
            && let Some(known) = state.known.get_mut(identity)
        {
            known.ended = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(files_max: usize) -> Watch {
        Watch {
            follows: false,
            interval: Duration::from_secs(1),
            files_max,
        }
    }

    fn names(enumerated: &Enumerated) -> Vec<&str> {
        let names = enumerated
            .splits
            .iter()
            .map(|split| split.id.rsplit_once('/').unwrap().1);
        names.map(|name| name.split_once('@').unwrap().0).collect()
    }

    /// Files settle, go to the subtask with the fewest, are given once, and are forgotten when they have gone.
    #[test]
    fn files_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let path = folder.path().to_str().unwrap();
        let followed = |path: &str| path.ends_with(".log");
        let first = FilesEnumerator::new(path, watch(4), followed, &[], 2).unwrap();
        let poll = |enumerator: &FilesEnumerator, subtask, second| {
            enumerator.poll(subtask, Duration::from_secs(second)).unwrap()
        };
        std::fs::write(at("a.csv"), "1").unwrap();
        std::fs::write(at("b.log"), "").unwrap();
        std::fs::write(at(".hidden.log"), "").unwrap();
        let b = poll(&first, 0, 0);
        assert_eq!(names(&b), ["b.log"]);
        assert!(poll(&first, 1, 0).splits.is_empty());
        std::fs::write(at("a.csv"), "12").unwrap();
        assert!(poll(&first, 1, 1).splits.is_empty());
        let a = poll(&first, 1, 2);
        assert_eq!(names(&a), ["a.csv"]);
        std::fs::rename(at("b.log"), at("c.log")).unwrap();
        assert!(names(&poll(&first, 0, 3)).is_empty());
        assert!(names(&poll(&first, 1, 3)).is_empty());
        first.handle_end(&a.splits[0].id);
        std::fs::remove_file(at("a.csv")).unwrap();
        assert_eq!(poll(&first, 1, 4).forget, [a.splits[0].id.clone()]);

        // After a restart with one subtask nothing is given twice.
        let second = FilesEnumerator::new(path, watch(4), followed, &[(0, b.splits[0].clone())], 1).unwrap();
        assert!(poll(&second, 0, 5).splits.is_empty());
        std::fs::rename(at("c.log"), at("old")).unwrap();
        std::fs::write(at("c.log"), "").unwrap();
        assert_eq!(names(&poll(&second, 0, 6)), ["c.log"]);
        for name in ["d.log", "e.log", "f.log"] {
            std::fs::write(at(name), "").unwrap();
        }
        let error = second.poll(0, Duration::from_secs(7)).unwrap_err();
        assert_eq!(error.code(), "CN0117");
    }
}
