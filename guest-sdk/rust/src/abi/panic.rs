//! Tells the host of a panic before the guest traps.

use std::panic::PanicHookInfo;
use std::sync::Once;

use super::host;
use crate::position;

/// Installs the hook, once.
pub(crate) fn install_hook() {
    static INSTALLED: Once = Once::new();
    // Natively the test harness has a hook of its own.
    if cfg!(target_arch = "wasm32") {
        INSTALLED.call_once(|| std::panic::set_hook(Box::new(report)));
    }
}

fn report(info: &PanicHookInfo<'_>) {
    let (operator, entry) = position::current();
    let message = info.payload_as_str().unwrap_or("panicked without a message");
    let message = match info.location() {
        Some(location) => format!("{message} (at {location})"),
        None => message.to_owned(),
    };
    host::panicked(operator, entry, &message);
}
