//! What checkpoints hold of dead letters: which file is to be appended to which.

use std::path::PathBuf;

use millrace_core::connector::Committable;
use millrace_core::{Error, Result};

const MAGIC: &[u8] = b"MDLT\x01";

/// A staged file and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letters {
    pub(super) path: PathBuf,
    pub(super) staged: String,
}

impl Letters {
    pub(super) fn encode(&self) -> Committable {
        let text = serde_json::json!({ "path": self.path.to_string_lossy(), "staged": self.staged });
        Committable([MAGIC, text.to_string().as_bytes()].concat())
    }

    pub(super) fn decode(committable: &Committable) -> Result<Self> {
        let decode = || {
            let json: serde_json::Value = serde_json::from_slice(committable.0.strip_prefix(MAGIC)?).ok()?;
            let staged = json["staged"].as_str().filter(|name| !name.contains('/'))?;
            Some(Letters {
                path: json["path"].as_str()?.into(),
                staged: staged.to_owned(),
            })
        };
        decode().ok_or_else(|| Error::internal("a committable is not one of dead letters"))
    }
}

/// Whether a committable is one of dead letters, whosever checkpoint it is in.
pub fn is_dead_letters(committable: &[u8]) -> bool {
    committable.starts_with(MAGIC)
}
