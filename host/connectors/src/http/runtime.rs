//! The runtime that all HTTP of the process shares: requests that are made, and the listeners of webhooks.

use std::sync::OnceLock;

use millrace_core::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that wait for servers. They do little: rows are read and written by the slots.
const THREADS: usize = 2;

static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();

/// The runtime, which begins with the first call and ends with the process.
pub(crate) fn handle() -> Result<Handle> {
    let start = || {
        let mut builder = Builder::new_multi_thread();
        let builder = builder.worker_threads(THREADS).thread_name("http").enable_all();
        builder.build().map_err(|error| error.to_string())
    };
    match RUNTIME.get_or_init(start) {
        Ok(runtime) => Ok(runtime.handle().clone()),
        Err(error) => Err(Error::external(
            "HT0003",
            format!("no threads for HTTP requests: {error}"),
        )),
    }
}
