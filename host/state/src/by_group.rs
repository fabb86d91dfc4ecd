//! Entries of the large maps and lists of a task, one key group after the other, decoded by a thread ahead of who takes them.
//!
//! A layer says of single entries what became of them, so nothing is known of a key before every layer has been asked. But
//! all that is known of a key is in its key group, and layers are written in the order of key groups. So a group is gathered
//! from all layers at once, from the oldest on, and rows of its keys can be taken while other groups are still to come. Who
//! has rows that wait says which group is wanted next.
//!
//! ```text
//!                 group 0 |  1   | 2 |   3  | ...
//!   oldest layer   =======|======|===|======|====
//!                   ==    | ==== | = |  ==  | =
//!   newest layer     =    |  =   |   |  =   | =
//!                         '--- read together: behind it the group is whole
//! ```
//!
//! Nothing here relies on the order: a layer in another one is only slower to read.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use millrace_core::block::Millis;
use millrace_core::checkpoint::GROUP_COLUMN;
use millrace_core::{Error, Result};

use crate::RestoredCheckpoint;
use crate::convert::Converter;
use crate::format::layer::{LayerReader, key_groups, of_groups};
use crate::format::{Layer, Operator};
use crate::redistribute::{CollectionRestore, share};
use crate::savepoint::Restorable;

/// Messages that are made ahead.
const AHEAD: usize = 4;

/// Rows of a message, if there are so many: a turn of whoever takes them.
const MESSAGE_ROWS: usize = if cfg!(test) { 16 } else { 8192 };

/// No group is wanted.
const NONE: u32 = u32::MAX;

/// What comes.
#[derive(Debug)]
pub enum OfGroups {
    /// Entries of a large state, to be laid over what has come of it.
    Entries {
        /// Its name.
        state: String,
        /// Their rows.
        batch: RecordBatch,
    },
    /// All entries of these key groups have come, of all states.
    Whole(Vec<u32>),
}

/// The end is said, so that a thread that was lost is not taken for it.
type Message = Result<Option<OfGroups>>;

/// See the [module](self).
#[derive(Debug)]
pub struct ByGroup {
    messages: Receiver<Message>,
    wanted: Arc<AtomicU32>,
    ended: bool,
}

/// The layers of one large state, from the oldest on.
type Stack = (String, Vec<Layer>);

impl Restorable {
    /// The large states that subtask `subtask` of `parallelism` of a keyed operator begins with, but for broadcast state;
    /// converted, if they have to be. `None`: there are none, or it is no checkpoint but a savepoint.
    ///
    /// # Errors
    /// If there can be no thread.
    ///
    /// # Panics
    /// See [`share`].
    pub fn by_group(
        self: &Arc<Self>,
        operator: &Operator,
        (parallelism, subtask): (u32, u32),
        converter: Option<(Arc<Converter>, Millis)>,
    ) -> Result<Option<ByGroup>> {
        let Restorable::Checkpoint(checkpoint) = self.as_ref() else {
            return Ok(None);
        };
        let share = share(operator, checkpoint.metadata().max_parallelism, parallelism, subtask);
        let own = share.collections.into_iter();
        let own = own.filter(|(state, _)| !operator.is_broadcast(state));
        let stacks = own.map(|(state, pieces)| {
            let layers = pieces.into_iter().map(|piece| piece.layer.clone());
            (state.to_owned(), layers.collect())
        });
        let stacks = stacks.collect::<Vec<Stack>>();
        if stacks.is_empty() {
            return Ok(None);
        }
        let (sender, messages) = sync_channel(AHEAD);
        let wanted = Arc::new(AtomicU32::new(NONE));
        let (restorable, asked, groups) = (self.clone(), wanted.clone(), share.groups);
        let read = move || {
            if let Restorable::Checkpoint(checkpoint) = restorable.as_ref() {
                let reading = Reading {
                    checkpoint,
                    converter,
                    wanted: &asked,
                    sender: &sender,
                };
                reading.read(&stacks, groups);
            }
        };
        let spawned = std::thread::Builder::new().name("restore-large".to_owned()).spawn(read);
        spawned.map_err(|error| Error::internal(format!("no thread can be started: {error}")))?;
        Ok(Some(ByGroup {
            messages,
            wanted,
            ended: false,
        }))
    }
}

impl ByGroup {
    /// Rows wait for this key group: it comes next, if it is still to come.
    pub fn want(&self, group: u32) {
        self.wanted.store(group, Relaxed);
    }

    /// What comes next; waits for it. `None`: that was all.
    ///
    /// # Errors
    /// If a layer cannot be read or is damaged, or a value cannot be converted.
    pub fn next_rows(&mut self) -> Result<Option<OfGroups>> {
        if self.ended {
            return Ok(None);
        }
        let lost = |_| Error::internal("the thread that reads layers is gone");
        let message = self.messages.recv().map_err(lost)??;
        self.ended = message.is_none();
        Ok(message)
    }
}

/// What the thread reads, and who takes it.
struct Reading<'a> {
    checkpoint: &'a RestoredCheckpoint,
    converter: Option<(Arc<Converter>, Millis)>,
    wanted: &'a AtomicU32,
    sender: &'a SyncSender<Message>,
}

impl Reading<'_> {
    fn read(&self, stacks: &[Stack], groups: Range<u32>) {
        let message = match self.send_all(stacks, groups) {
            Ok(true) => Ok(None),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        // Whoever takes no more needs neither an end nor an error.
        let _ = self.sender.send(message);
    }

    /// False: nobody takes them any more.
    fn send_all(&self, stacks: &[Stack], groups: Range<u32>) -> Result<bool> {
        let open = |layer: &Layer| LayerByGroup::open(self.checkpoint, layer);
        let stacks = stacks.iter().map(|(state, layers)| {
            let layers = layers.iter().map(open).collect::<Result<Vec<_>>>()?;
            Ok((state.as_str(), layers))
        });
        let mut stacks = stacks.collect::<Result<Vec<_>>>()?;
        let mut left = groups.collect::<BTreeSet<_>>();
        let (mut whole, mut gathered) = (Vec::new(), Vec::new());
        while !left.is_empty() {
            let wanted = self.wanted.load(Relaxed);
            let is_wanted = left.remove(&wanted);
            let next = if is_wanted { Some(wanted) } else { left.pop_first() };
            let Some(group) = next else { break };
            let first_left = left.first().copied().unwrap_or(NONE);
            let mut entries = Vec::with_capacity(stacks.len());
            for (state, layers) in &mut stacks {
                let mut batches = Vec::new();
                for layer in layers {
                    layer.read(group, &mut batches)?;
                    layer.forget_before(first_left);
                }
                entries.push(CollectionRestore {
                    state: (*state).to_owned(),
                    batches,
                });
            }
            entries.retain(|entries| !entries.batches.is_empty());
            if let Some((converter, now)) = &self.converter {
                entries = converter.collections(&entries, *now)?;
            }
            gathered.extend(entries);
            whole.push(group);
            let enough = is_wanted || row_count(&gathered) >= MESSAGE_ROWS;
            if (enough || left.is_empty()) && !self.send(std::mem::take(&mut gathered), std::mem::take(&mut whole))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends the entries of some groups, and that these are whole.
    fn send(&self, gathered: Vec<CollectionRestore>, whole: Vec<u32>) -> Result<bool> {
        // Those of a state together, in their order.
        let states = gathered.iter().map(|entries| entries.state.as_str());
        for state in states.collect::<BTreeSet<_>>() {
            let own = gathered.iter().filter(|entries| entries.state == state);
            for batch in joined(own.flat_map(|entries| &entries.batches))? {
                let state = state.to_owned();
                if self.sender.send(Ok(Some(OfGroups::Entries { state, batch }))).is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(self.sender.send(Ok(Some(OfGroups::Whole(whole)))).is_ok())
    }
}

fn row_count(gathered: &[CollectionRestore]) -> usize {
    let batches = gathered.iter().flat_map(|entries| &entries.batches);
    batches.map(RecordBatch::num_rows).sum()
}

/// Batches of one schema, small ones together.
fn joined<'b>(batches: impl Iterator<Item = &'b RecordBatch>) -> Result<Vec<RecordBatch>> {
    let join = |together: &[&RecordBatch]| match together {
        [one] => Ok((*one).clone()),
        several => concat_batches(&several[0].schema(), several.iter().copied())
            .map_err(|error| Error::internal(format!("batches of one state differ: {error}"))),
    };
    let (mut all, mut together, mut rows) = (Vec::new(), Vec::new(), 0);
    for batch in batches {
        together.push(batch);
        rows += batch.num_rows();
        if rows >= MESSAGE_ROWS {
            all.push(join(&together)?);
            together.clear();
            rows = 0;
        }
    }
    if !together.is_empty() {
        all.push(join(&together)?);
    }
    Ok(all)
}

/// A layer of which single groups are read.
struct LayerByGroup {
    reader: LayerReader,
    /// Of each batch the groups that it may hold.
    spans: Vec<RangeInclusive<u32>>,
    /// The batch that was decoded last: the next group may be in it too.
    held: Option<(usize, RecordBatch)>,
}

impl LayerByGroup {
    fn open(checkpoint: &RestoredCheckpoint, layer: &Layer) -> Result<Self> {
        Ok(LayerByGroup {
            reader: checkpoint.open_layer(layer)?,
            spans: checkpoint.layer_spans(layer)?,
            held: None,
        })
    }

    /// Adds the rows of a group.
    fn read(&mut self, group: u32, rows: &mut Vec<RecordBatch>) -> Result<()> {
        for number in 0..self.spans.len() {
            if !self.spans[number].contains(&group) {
                continue;
            }
            let batch = match self.held.take() {
                Some((held, batch)) if held == number => batch,
                _ => self.reader.read_again(number)?,
            };
            let own = of_group(&batch, group)?;
            self.held = Some((number, batch));
            if own.num_rows() > 0 {
                rows.push(own);
            }
        }
        Ok(())
    }

    /// Groups before this one are not read any more.
    fn forget_before(&mut self, group: u32) {
        let is_over = |(number, _): &(usize, RecordBatch)| *self.spans[*number].end() < group;
        if self.held.as_ref().is_some_and(is_over) {
            self.held = None;
        }
    }
}

/// The rows of a batch that are of a key group.
fn of_group(batch: &RecordBatch, group: u32) -> Result<RecordBatch> {
    let groups = key_groups(batch, GROUP_COLUMN).map_err(Error::internal)?.values();
    if !groups.is_sorted() {
        return of_groups(batch, GROUP_COLUMN, &(group..group + 1));
    }
    let first = groups.partition_point(|other| *other < group);
    let end = groups.partition_point(|other| *other <= group);
    Ok(batch.slice(first, end - first))
}
