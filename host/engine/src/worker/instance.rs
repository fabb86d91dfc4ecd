//! The sandboxed instance of a slot.

use millrace_core::plan::SlotIndex;
use millrace_core::{Error, Result};
use millrace_wasm::Instance;

use super::slot::SlotJob;

/// Makes the instance of a slot, with the job's graph built and no chain open.
pub(crate) fn instantiate(job: &SlotJob, slot: SlotIndex) -> Result<Instance> {
    let mut instance = job.pipeline.instantiate(job.options.seed, job.options.guest_log())?;
    if instance.build(&job.parameters)? != job.graph {
        let message =
            "the pipeline built another graph than at submission; `build` must depend on its parameters alone";
        return Err(Error::user("GR0011", message));
    }
    instance.reseed(job.options.seed.wrapping_add(1 + u64::from(slot.0)));
    Ok(instance)
}
