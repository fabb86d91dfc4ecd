//! What is in the files of a storage, versions 1 to 3. `FORMAT.md` beside this crate documents every field.

mod in_flight;
pub(crate) mod layer;
mod metadata;

pub(crate) use in_flight::encode as encode_in_flight;
pub use in_flight::{FileRef, InFlight, InFlightChannel, InFlightElement, InFlightRows, InFlightSize, fingerprint};
pub use metadata::{Blob, Collection, FORMAT_VERSION, Kind, Layer, Metadata, Operator, Run, Split, Subtask};
pub(crate) use metadata::{WITHOUT_IN_FLIGHT, version_of};
pub(crate) use metadata::{
    damaged, envelope, open_envelope, read_metadata, read_run, stamp, write_metadata, write_run,
};
