//! State that comes from a checkpoint: all of it before the first row, or while rows come.
//!
//! While rows come, state comes from the newest layer on, a batch a turn. Rows of entries that have come are taken
//! meanwhile, the others wait, a few blocks of them; for whatever else is to happen the rest of the state comes first. What
//! the guest may not hold comes last and goes to the lower tier. Large states come by key group, in turn with what is kept
//! by slot; the group of the row that waits for longest comes next.

use arrow_array::RecordBatch;
use millrace_core::block::{Block, Millis, WATERMARK_MAX, WATERMARK_MIN};
use millrace_core::collections::CollectionSchema;
use millrace_core::{Error, Result};
use millrace_net::partition::select;
use millrace_operators::keyed::KeyedOperator;
use millrace_state::convert::Converter;
use millrace_state::redistribute::{CollectionRestore, TaskRestore};
use millrace_state::{ByGroup, NewestFirst, OfGroups, Restored};

use super::function::with_function;
use super::{ChainContext, ChainTask, HeadOperator};
use crate::worker::wiring::{KeySource, key_columns};

/// Rows that may wait for the state of their keys.
const WAITING_ROWS_MAX: usize = 16 * 1024;

/// State on its way, and who waits for it.
pub(super) struct Restoring {
    /// What is kept by slot, until all of it has come.
    layers: Option<NewestFirst>,
    /// Large states, likewise.
    groups: Option<ByGroup>,
    /// Whose turn it is where both are there.
    groups_next: bool,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    /// Changes are tracked for it alone.
    tracks_changes: bool,
}

/// Rows of an input.
struct Waiting {
    input: u32,
    keys: KeySource,
    block: Block,
}

impl ChainTask {
    /// Goes on from what a checkpoint holds, converted where its schema is another. Before the first row.
    ///
    /// Where the last watermark had come all windows had fired and are over, and time begins anew: a job that was
    /// drained may go on with more input. Unless this attempt `settles`, which reads no more. `before`: how many subtasks
    /// the task had.
    pub(crate) fn restore(
        &mut self,
        stored: TaskRestore,
        before: u32,
        converter: Option<&Converter>,
        settles: bool,
        now: Millis,
    ) -> Result<()> {
        let restore = match converter {
            None => stored,
            Some(converter) => {
                let guest = &mut self.guest;
                converter.convert(stored, now, &mut |state, migration, old| {
                    guest.migrate_state(state, migration, old)
                })?
            }
        };
        let drained = self.restore_watermark(restore.watermark, settles, now);
        if drained && matches!(self.head, HeadOperator::Window { .. }) {
            return Ok(());
        }
        if let Some((operator, Some(tier))) = self.head.tiered() {
            let batches = restore.batches.iter();
            let bytes = batches.map(RecordBatch::get_array_memory_size).sum();
            tier.prepare_restore(operator, bytes)?;
        }
        if let HeadOperator::Keyed { operator, .. } = &mut self.head {
            operator.expect_restored(restore.batches.iter().map(RecordBatch::num_rows).sum())?;
            restore_collections(&self.tables.collections, &restore.collections, operator)?;
        }
        let guest = &mut self.guest;
        if let HeadOperator::Keyed { operator, .. } = &mut self.head
            && operator.is_unkeyed()
        {
            let subtasks = (before, self.subtask.parallelism);
            return match &mut self.careful {
                None => operator.restore_unkeyed(&restore.batches, subtasks, guest),
                Some(careful) => operator.restore_unkeyed(&restore.batches, subtasks, &mut careful.calls.calls(guest)),
            };
        }
        restore
            .batches
            .iter()
            .try_for_each(|batch| match (&mut self.head, &mut self.careful) {
                (HeadOperator::Stateless, _) => Ok(()),
                (HeadOperator::Keyed { operator, pattern, .. }, None) => {
                    with_function(pattern, guest, |function| operator.restore(batch, function))
                }
                (HeadOperator::Keyed { operator, pattern, .. }, Some(careful)) => {
                    let calls = &mut careful.calls.calls(guest);
                    with_function(pattern, calls, |function| operator.restore(batch, function))
                }
                (HeadOperator::Window { operator, .. }, None) => operator.restore(batch, guest),
                (HeadOperator::Window { operator, .. }, Some(careful)) => {
                    operator.restore(batch, &mut careful.calls.calls(guest))
                }
            })
    }

    /// Whether all had been drained there: then time begins anew.
    fn restore_watermark(&mut self, restored: Option<Millis>, settles: bool, now: Millis) -> bool {
        let drained = restored == Some(WATERMARK_MAX) && !settles;
        let watermark = restored.filter(|_| !drained).unwrap_or(WATERMARK_MIN);
        self.watermark = watermark;
        match &mut self.head {
            HeadOperator::Stateless => {}
            HeadOperator::Keyed { operator, .. } => {
                operator.restore_watermark(watermark);
                operator.set_now(now);
            }
            HeadOperator::Window { operator, .. } => operator.restore_watermark(watermark),
        }
        drained
    }

    /// Bytes of state that may be restored into the guest; `None`: there is no state.
    pub(crate) fn restored_bytes_max(&mut self) -> Option<u64> {
        let (_, tier) = self.head.tiered()?;
        tier.as_ref().map(|tier| tier.restored_bytes_max())
    }

    /// Begins to go on from what a checkpoint holds, of the same schema, but for what it holds of large states. Before the
    /// first row. Call [`restore_some`](Self::restore_some) until nothing [`is_restoring`](Self::is_restoring).
    pub(crate) fn begin_restore(&mut self, mut layers: NewestFirst, now: Millis) -> Result<()> {
        let drained = self.restore_watermark(layers.watermark(), false, now);
        match &mut self.head {
            HeadOperator::Stateless => return Ok(()),
            // All windows had fired and are over.
            HeadOperator::Window { .. } if drained => return Ok(()),
            HeadOperator::Window { operator, .. } => operator.begin_restore(),
            HeadOperator::Keyed { operator, .. } => {
                operator.begin_restore(usize::try_from(layers.resident_count()?).unwrap_or(usize::MAX))?;
                restore_collections(&self.tables.collections, &layers.take_broadcast(), operator)?;
            }
        }
        let tracks_changes = !self.tables.tracked;
        if tracks_changes {
            self.track_changes();
        }
        self.restoring = Some(Box::new(Restoring {
            layers: Some(layers),
            groups: None,
            groups_next: false,
            waiting: Vec::new(),
            tracks_changes,
        }));
        Ok(())
    }

    /// Begins to go on from what a checkpoint holds of large states, if there are any. Behind what is said of all else by
    /// [`restore`](Self::restore) or [`begin_restore`](Self::begin_restore), and before the first row.
    pub(crate) fn begin_restore_collections(&mut self, groups: Option<ByGroup>) {
        let (Some(groups), HeadOperator::Keyed { operator, .. }) = (groups, &mut self.head) else {
            return;
        };
        operator.begin_restore_collections();
        let restoring = self.restoring.get_or_insert_with(|| {
            Box::new(Restoring {
                layers: None,
                groups: None,
                groups_next: false,
                waiting: Vec::new(),
                tracks_changes: false,
            })
        });
        restoring.groups = Some(groups);
    }

    /// Whether what is kept by slot is still to come.
    pub(super) fn is_restoring_slots(&self) -> bool {
        let restoring = self.restoring.as_ref();
        restoring.is_some_and(|restoring| restoring.layers.is_some())
    }

    /// Whether state is still to come.
    pub(crate) fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// Whether no more rows should come before more state.
    pub(crate) fn waits_for_state(&self) -> bool {
        self.restoring.as_ref().is_some_and(|restoring| {
            let waiting = restoring.waiting.iter();
            waiting.map(|waiting| waiting.block.row_count()).sum::<usize>() >= WAITING_ROWS_MAX
        })
    }

    /// Takes a batch of state, and rows that waited for it.
    pub(crate) fn restore_some(&mut self, context: &mut ChainContext<'_>) -> Result<()> {
        let Some(restoring) = &mut self.restoring else {
            return Ok(());
        };
        restoring.groups_next = restoring.layers.is_none() || !restoring.groups_next;
        let some_may_go = match (&mut restoring.layers, &mut restoring.groups) {
            (_, Some(groups)) if restoring.groups_next => {
                let next = groups.next_rows()?;
                self.restore_groups(next)?
            }
            (Some(layers), _) => {
                let next = layers.next_rows()?;
                self.restore_slots(next)?;
                true
            }
            (None, _) => true,
        };
        let restoring = self.restoring.as_ref();
        if restoring.is_some_and(|restoring| restoring.layers.is_none() && restoring.groups.is_none()) {
            return self.end_restore(context);
        }
        match some_may_go {
            true => self.take_waiting(context),
            false => Ok(()),
        }
    }

    /// What is kept by slot; none: all of it has come.
    fn restore_slots(&mut self, next: Option<Restored>) -> Result<()> {
        match next {
            Some(Restored::Newest(batch)) => return self.restore_newest(&batch),
            Some(Restored::Older(batch)) => return self.restore_older(&batch),
            None => {}
        }
        if let Some(restoring) = &mut self.restoring {
            restoring.layers = None;
        }
        match &mut self.head {
            HeadOperator::Stateless => {}
            HeadOperator::Keyed { operator, .. } => operator.end_restore(),
            HeadOperator::Window { operator, .. } => operator.end_restore(),
        }
        Ok(())
    }

    /// Large states; none: all of them have come. Whether rows may be taken that could not be before.
    fn restore_groups(&mut self, next: Option<OfGroups>) -> Result<bool> {
        let HeadOperator::Keyed { operator, .. } = &mut self.head else {
            return Err(Error::internal("large states came for a head that has no keyed state"));
        };
        match next {
            Some(OfGroups::Entries { state, batch }) => {
                let batches = vec![batch];
                let entries = CollectionRestore { state, batches };
                restore_collections(&self.tables.collections, &[entries], operator)?;
                return Ok(false);
            }
            Some(OfGroups::Whole(groups)) => operator.groups_have_come(&groups),
            None => {
                operator.end_restore_collections();
                if let Some(restoring) = &mut self.restoring {
                    restoring.groups = None;
                }
            }
        }
        Ok(true)
    }

    fn restore_newest(&mut self, batch: &RecordBatch) -> Result<()> {
        let guest = &mut self.guest;
        match (&mut self.head, &mut self.careful) {
            (HeadOperator::Stateless, _) => Ok(()),
            (HeadOperator::Keyed { operator, pattern, .. }, None) => {
                with_function(pattern, guest, |function| operator.restore_newest(batch, function))
            }
            (HeadOperator::Keyed { operator, pattern, .. }, Some(careful)) => {
                let calls = &mut careful.calls.calls(guest);
                with_function(pattern, calls, |function| operator.restore_newest(batch, function))
            }
            (HeadOperator::Window { operator, .. }, None) => operator.restore_newest(batch, guest),
            (HeadOperator::Window { operator, .. }, Some(careful)) => {
                operator.restore_newest(batch, &mut careful.calls.calls(guest))
            }
        }
    }

    /// What the guest may not hold goes below, and comes up when it is asked for.
    fn restore_older(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some((operator, Some(tier))) = self.head.tiered() {
            tier.put_for_restore(operator)?;
        }
        let guest = &mut self.guest;
        match &mut self.head {
            HeadOperator::Stateless => Ok(()),
            HeadOperator::Keyed { operator, pattern, .. } => {
                with_function(pattern, guest, |function| operator.restore_older(batch, function))
            }
            HeadOperator::Window { operator, .. } => operator.restore_older(batch),
        }
    }

    /// Rows that come while state does.
    pub(super) fn handle_while_restoring(
        &mut self,
        input: u32,
        keys: &KeySource,
        block: &Block,
        context: &mut ChainContext<'_>,
    ) -> Result<()> {
        if let Some(restoring) = &mut self.restoring {
            restoring.waiting.push(Waiting {
                input,
                keys: keys.clone(),
                block: block.clone(),
            });
        }
        self.take_waiting(context)
    }

    /// Takes those rows that wait whose keys have come, up to a block of which none has: where state comes in an order of
    /// its own, looking at all of them each time would take as long as the state.
    fn take_waiting(&mut self, context: &mut ChainContext<'_>) -> Result<()> {
        let waiting = self.restoring.as_mut().map(|restoring| &mut restoring.waiting);
        let mut waiting = waiting.map(std::mem::take).unwrap_or_default().into_iter();
        let mut left = Vec::new();
        for Waiting { input, keys, block } in waiting.by_ref() {
            let (taken, others) = split(&mut self.head, &keys, &block)?;
            left.extend(others.map(|block| Waiting {
                input,
                keys: keys.clone(),
                block,
            }));
            match taken {
                Some(taken) => self.handle_rows(input, &keys, &taken, context)?,
                None => break,
            }
        }
        left.extend(waiting);
        if let Some(restoring) = &mut self.restoring {
            restoring.waiting = left;
        }
        self.want_group()
    }

    /// Has the large states of the row that waits for longest come next.
    fn want_group(&self) -> Result<()> {
        let restoring = self.restoring.as_ref();
        let Some((groups, first)) = restoring.and_then(|all| all.groups.as_ref().zip(all.waiting.first())) else {
            return Ok(());
        };
        let HeadOperator::Keyed { operator, .. } = &self.head else {
            return Ok(());
        };
        let key = key_columns(&first.keys, &first.block.slice(0, 1))?;
        if let Some(group) = operator.missing_group(&key)? {
            groups.want(group);
        }
        Ok(())
    }

    /// All state has come.
    fn end_restore(&mut self, context: &mut ChainContext<'_>) -> Result<()> {
        let Some(restoring) = self.restoring.take() else {
            return Ok(());
        };
        if restoring.tracks_changes {
            self.forget_changes();
        }
        for Waiting { input, keys, block } in restoring.waiting {
            self.handle_rows(input, &keys, &block, context)?;
        }
        Ok(())
    }
}

/// Rows of a block whose entries have come, and the others.
fn split(head: &mut HeadOperator, keys: &KeySource, block: &Block) -> Result<(Option<Block>, Option<Block>)> {
    let columns = key_columns(keys, block)?;
    let known = match head {
        HeadOperator::Stateless => return Ok((Some(block.clone()), None)),
        HeadOperator::Keyed { operator, .. } => operator.find_restored(&columns)?,
        HeadOperator::Window { operator, .. } => {
            let none = || Error::internal("rows reached a window without event time");
            operator.find_restored(&columns, block.times.as_ref().ok_or_else(none)?)?
        }
    };
    let rows = |wanted: bool| {
        let rows = (0u32..).zip(&known).filter(|(_, known)| **known == wanted);
        rows.map(|(row, _)| row).collect::<Vec<_>>()
    };
    let (taken, others) = (rows(true), rows(false));
    if others.is_empty() {
        return Ok((Some(block.clone()), None));
    }
    if taken.is_empty() {
        return Ok((None, Some(block.clone())));
    }
    Ok((Some(select(block, &taken)?), Some(select(block, &others)?)))
}

/// Gives an operator what is stored of its large states.
fn restore_collections(
    declared: &[CollectionSchema],
    stored: &[CollectionRestore],
    operator: &mut KeyedOperator,
) -> Result<()> {
    for (number, schema) in declared.iter().enumerate() {
        let stored = stored.iter().filter(|stored| stored.state == schema.name);
        for batch in stored.flat_map(|stored| &stored.batches) {
            operator.restore_collection(number, batch)?;
        }
    }
    Ok(())
}
