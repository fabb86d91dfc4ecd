//! Codes of this crate's errors; `docs/errors` has a page for each.

/// The URL of a storage is not understood.
pub const URL: &str = "CS0001";
/// The URL is of a cloud store, which this program was built without.
pub const NO_CLOUD: &str = "CS0002";
/// The store cannot be reached.
pub const UNREACHABLE: &str = "CS0003";
/// The store refuses access.
pub const DENIED: &str = "CS0004";
/// The disk or quota is full.
pub const FULL: &str = "CS0005";
/// The bucket or container is not there.
pub const NO_BUCKET: &str = "CS0006";
/// Reading or writing failed otherwise.
pub const FAILED: &str = "CS0007";
/// An increment came for a table whose earlier layer could not be written.
pub const LOST: &str = "CS0008";

/// Written by a newer Millrace.
pub const NEWER: &str = "CS0101";
/// A description of a run or checkpoint is damaged.
pub const METADATA: &str = "CS0102";
/// A file that a checkpoint refers to is missing or of another size.
pub const MISSING: &str = "CS0103";
/// A file that a checkpoint refers to has other content than was written.
pub const DAMAGED: &str = "CS0104";
/// There is no such run or checkpoint.
pub const NOT_FOUND: &str = "CS0105";

/// There is no savepoint at the place that was named.
pub const NO_SAVEPOINT: &str = "CS0201";
/// A savepoint cannot be written where something else is.
pub const OCCUPIED: &str = "CS0202";
/// The state of an operator cannot be written to a savepoint.
pub const TABLE: &str = "CS0203";

/// A savepoint has no operator or state of this name.
pub const NO_STATE: &str = "CS0204";
/// A text is no key of the operator.
pub const KEY: &str = "CS0205";

/// A table does not fit the state that it is to be.
pub const UNFIT: &str = "CS0206";

/// A checkpoint with rows in flight cannot become a savepoint.
pub const IN_FLIGHT: &str = "CS0207";

/// A state backend cannot read or write what it holds.
pub const BACKEND: &str = "CS0301";

/// Whether a code says that one checkpoint is unusable, while an older one may be sound.
pub fn is_damage(code: &str) -> bool {
    [METADATA, MISSING, DAMAGED, NOT_FOUND].contains(&code)
}
