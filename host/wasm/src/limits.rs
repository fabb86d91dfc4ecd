//! Limits of what one instance may use. Every limit has a default and a reason.

use std::time::Duration;

use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter};

/// Limits of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Linear memory in bytes. Default 4 GiB, all that a 32-bit guest can address.
    pub memory_bytes: usize,
    /// Longest a single call may run. Default 30 s: calls are sized to about 1 ms, so only a function that
    /// will not end comes near it.
    pub call_deadline: Duration,
    /// Bytes that one call may stage with `emit-block`. Default 1 GiB.
    pub staged_bytes: usize,
    /// Largest block that a guest may hand over. Default 64 MiB; SDKs close blocks at 1 MiB.
    pub block_bytes: usize,
    /// Bytes that a guest may hand over at once, in the result of a call or the arguments of an import. Default 128 MiB:
    /// twice a block, so that one that is too large can be told from one that is malformed.
    pub handed_bytes: usize,
    /// Wasm stack in bytes. Default 1 MiB, half of a slot thread's stack.
    pub stack_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: 4 << 30,
            call_deadline: Duration::from_secs(30),
            staged_bytes: 1 << 30,
            block_bytes: 64 << 20,
            handed_bytes: 128 << 20,
            stack_bytes: 1 << 20,
        }
    }
}

/// How often the epoch advances; deadlines are rounded up to it.
pub(crate) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Elements of a table: Python, Go and JavaScript components need far more than the default.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Instances alive in one process: slots up to the default max parallelism, with room for examinations after a trap.
/// Each reserves 4 GiB of addresses, of which there are 128 TiB.
pub(crate) const INSTANCES_MAX: u32 = 160;

/// Engine configuration. `pooled`: instances come from a pool of reserved address space, which makes them
/// cheap to create; a process with limited address space goes without.
pub(crate) fn engine_config(limits: &Limits, pooled: bool) -> Config {
    let mut config = Config::new();
    // A component call is 3.5 times cheaper without the machinery for concurrent guests.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.max_wasm_stack(limits.stack_bytes);
    // Results must not depend on the processor.
    config.wasm_relaxed_simd(false);
    // A smaller reservation costs 30 to 70 % in bounds checks.
    config.memory_reservation(4 << 30);
    config.memory_guard_size(32 << 20);
    if pooled {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(INSTANCES_MAX);
        pool.total_core_instances(INSTANCES_MAX * 4);
        pool.total_memories(INSTANCES_MAX);
        pool.total_tables(INSTANCES_MAX * 4);
        pool.table_elements(TABLE_ELEMENTS_MAX);
        pool.max_memory_size(4 << 30);
        pool.max_core_instance_size(4 << 20);
        pool.max_component_instance_size(4 << 20);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Refuses growth past the limits and remembers that it did, for the error message.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) memory_bytes_max: usize,
    pub(crate) memory_bytes: usize,
    pub(crate) denied: Option<Denied>,
}

/// Why an instance got no more memory.
#[derive(Debug)]
pub(crate) enum Denied {
    /// It would have had this much, over the limit.
    OverLimit { desired_bytes: usize },
    /// The operating system had no more.
    BySystem { reason: String },
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory_bytes_max || maximum.is_some_and(|maximum| desired > maximum) {
            self.denied = Some(Denied::OverLimit { desired_bytes: desired });
            return Ok(false);
        }
        self.memory_bytes = desired;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        let reason = error.root_cause().to_string();
        self.denied.get_or_insert(Denied::BySystem { reason });
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}
