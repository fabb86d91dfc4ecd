//! What is in the files of a storage, version 1. `FORMAT.md` beside this crate documents every field.

pub(crate) mod layer;
mod metadata;

pub use metadata::{Blob, FORMAT_VERSION, Kind, Layer, Metadata, Operator, Run, Split, Subtask};
pub(crate) use metadata::{
    damaged, envelope, open_envelope, read_metadata, read_run, stamp, write_metadata, write_run,
};
