//! What a pipeline may know of the world: the clock and chance, both repeatable when a job is replayed.

use crate::abi::host;
use crate::values::Timestamp;

/// Processing time. It stands still during a block, and is 0 while the dataflow is built.
///
/// ```
/// use std::time::Duration;
/// let deadline = millrace::environment::now() + Duration::from_secs(60);
/// ```
pub fn now() -> Timestamp {
    Timestamp::from_millis(host::now())
}

/// Random bytes from the job's generator.
///
/// ```
/// assert_eq!(millrace::environment::random_bytes(5).len(), 5);
/// ```
pub fn random_bytes(length: usize) -> Vec<u8> {
    host::random(u32::try_from(length).expect("the length fits in 32 bits"))
}

/// A random number from the job's generator.
///
/// ```
/// let die = millrace::environment::random() % 6 + 1;
/// assert!(die <= 6);
/// ```
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&host::random(8));
    u64::from_le_bytes(bytes)
}
