//! What savepoints hold of sinks and dead letters: noted beside the outputs, so that no later start drops it.
//!
//! ```text
//!   Store --note (begun)--> tables, manifest --note (written)--> Complete of a later checkpoint, or a job that goes on
//!     |                          |      '--- a kill here: the next start finds the savepoint, and completes the note
//!     '--------------------------'---- a kill here: the next start finds none, and drops the note
//! ```
//!
//! A note ends by itself when what it holds is committed, whoever does it ([`Sink::keep`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_connectors::is_dead_letters;
use millrace_core::Result;
use millrace_core::connector::{Committable, KeptFor, Sink, without_passwords};
use millrace_core::graph::OperatorIndex;
use millrace_state::codes::NO_SAVEPOINT;
use millrace_state::{Depth, Metadata, Restorable, redistribute};
use millrace_wasm::LogLevel;

use crate::worker::SlotJob;

/// Notes what one savepoint holds, until it is there or will never be.
#[derive(Clone)]
pub(crate) struct Keeping {
    job: Arc<SlotJob>,
    savepoint: KeptFor,
}

impl Keeping {
    /// Notes what a savepoint that is to be written to `url` holds.
    ///
    /// # Errors
    /// If the outside refuses a note. Then there is none.
    pub(crate) fn begin(job: &Arc<SlotJob>, metadata: &Metadata, url: &str) -> Result<Self> {
        let keeping = Keeping {
            job: job.clone(),
            savepoint: KeptFor {
                id: id_of(metadata),
                savepoint: url.to_owned(),
                is_written: false,
            },
        };
        keep(job, metadata, &keeping.savepoint).inspect_err(|_| keeping.give_up())?;
        Ok(keeping)
    }

    /// The savepoint is there. If that cannot be noted, the next start looks for it where it was written.
    pub(crate) fn complete(&self, metadata: &Metadata) {
        let savepoint = KeptFor {
            is_written: true,
            ..self.savepoint.clone()
        };
        if let Err(error) = keep(&self.job, metadata, &savepoint) {
            let url = &savepoint.savepoint;
            let message = format!("savepoint `{url}` must stay where it is until its job goes on: {error}");
            (self.job.options.log)(LogLevel::Warn, &message);
        }
    }

    /// There will be no savepoint.
    pub(crate) fn give_up(&self) {
        if let Err(error) = release(&self.job, &self.savepoint.id) {
            let message = format!(
                "a note of savepoint `{}` stays behind: {error}",
                self.savepoint.savepoint
            );
            (self.job.options.log)(LogLevel::Warn, &message);
        }
    }
}

/// Numbers of savepoints may come again in a run that goes on in another process, but not at the same time.
fn id_of(metadata: &Metadata) -> String {
    let Metadata {
        run,
        checkpoint,
        completed_ms,
        ..
    } = metadata;
    format!("{run}-{checkpoint}-{completed_ms}")
}

/// What a checkpoint or savepoint holds of a sink.
pub(crate) fn of_sink(job: &SlotJob, metadata: &Metadata, operator: OperatorIndex) -> Vec<Committable> {
    let stored = metadata.operator(&job.ids[operator.0 as usize]);
    stored.map(redistribute::committables).unwrap_or_default()
}

/// What it holds of dead letters.
pub(crate) fn of_dead_letters(metadata: &Metadata) -> Vec<Committable> {
    let prepared = metadata.operators.iter().flat_map(redistribute::committables);
    prepared.filter(|committable| is_dead_letters(&committable.0)).collect()
}

/// Does something with each sink; an error names it.
pub(crate) fn with_sinks(job: &SlotJob, mut each: impl FnMut(OperatorIndex, &dyn Sink) -> Result<()>) -> Result<()> {
    for (&operator, sink) in &job.connectors.sinks {
        let name = &job.graph.operators[operator.0 as usize].name;
        each(operator, sink.as_ref()).map_err(|error| error.context(format!("sink `{name}`")))?;
    }
    Ok(())
}

fn keep(job: &SlotJob, metadata: &Metadata, savepoint: &KeptFor) -> Result<()> {
    with_sinks(job, |operator, sink| match of_sink(job, metadata, operator) {
        prepared if prepared.is_empty() => Ok(()),
        prepared => sink.keep(savepoint, &prepared),
    })?;
    match of_dead_letters(metadata) {
        letters if letters.is_empty() => Ok(()),
        letters => job.rejects.keep(savepoint, &letters),
    }
}

fn release(job: &SlotJob, id: &str) -> Result<()> {
    with_sinks(job, |_, sink| sink.release(id))?;
    job.rejects.release(id)
}

/// What is where a savepoint was to be written.
enum Place {
    /// This savepoint.
    There(Box<Restorable>),
    /// No savepoint, or another.
    Free,
    /// Nobody can tell: the storage does not answer, or what is there is damaged.
    Unknown,
}

fn look_for(savepoint: &KeptFor) -> Place {
    match Restorable::open(&savepoint.savepoint, Depth::Sizes) {
        Ok(found) if id_of(found.metadata()) == savepoint.id => Place::There(Box::new(found)),
        Ok(_) => Place::Free,
        Err(error) if error.code() == NO_SAVEPOINT => Place::Free,
        Err(_) => Place::Unknown,
    }
}

/// Who keeps something for which savepoint.
fn kept(job: &SlotJob) -> Result<BTreeMap<KeptFor, Vec<String>>> {
    let mut kept: BTreeMap<KeptFor, Vec<String>> = BTreeMap::new();
    with_sinks(job, |operator, sink| {
        let name = &job.graph.operators[operator.0 as usize].name;
        for savepoint in sink.kept()? {
            kept.entry(savepoint).or_default().push(format!("sink `{name}`"));
        }
        Ok(())
    })?;
    for savepoint in job.rejects.kept()? {
        let keepers = kept.entry(savepoint).or_default();
        let letters = "a dead letter".to_owned();
        if !keepers.contains(&letters) {
            keepers.push(letters);
        }
    }
    Ok(kept)
}

/// Before sinks are checked and recovered by a process that starts: sorts out the notes of processes that ended while they
/// wrote a savepoint. One that is written may have been moved, so nothing is asked about it.
///
/// # Errors
/// If the outside cannot be asked or changed.
pub(crate) fn settle(job: &SlotJob) -> Result<()> {
    for savepoint in kept(job)?.into_keys().filter(|savepoint| !savepoint.is_written) {
        match look_for(&savepoint) {
            Place::There(found) => {
                let is_written = true;
                keep(
                    job,
                    found.metadata(),
                    &KeptFor {
                        is_written,
                        ..savepoint
                    },
                )?;
            }
            Place::Free => release(job, &savepoint.id)?,
            Place::Unknown => {}
        }
    }
    Ok(())
}

/// Says for which savepoints something is kept, once a job has begun.
///
/// # Errors
/// If the outside cannot be asked.
pub(crate) fn tell(job: &SlotJob) -> Result<()> {
    for (savepoint, keepers) in kept(job)? {
        let (url, keepers) = (without_passwords(&savepoint.savepoint), keepers.join(", "));
        let message = format!("{keepers}: what savepoint `{url}` holds and nobody has committed is kept for it");
        (job.options.log)(LogLevel::Info, &message);
    }
    Ok(())
}
