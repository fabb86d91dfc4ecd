//! Names of users (jobs, operators) as names of files, and the paths of a run.
//!
//! Percent-encoding of all but letters, digits, `-`, `_` and inner dots; what would be too long for a file
//! name is cut and carries a hash of the whole. Different names never share a file name.

use millrace_core::checkpoint::CheckpointId;
use xxhash_rust::xxh3::xxh3_128;

/// Longer encoded names are cut: a file name has at most 255 bytes, and more is put around this one.
const ENCODED_BYTES_MAX: usize = 160;

/// What every folder of a checkpoint begins with.
pub(crate) const CHECKPOINT_PREFIX: &str = "chk-";

/// Name of the file that makes a checkpoint one.
pub(crate) const METADATA_FILE: &str = "metadata.json";

/// A user's name as one segment of a path.
pub(crate) fn encode(name: &str) -> String {
    if name.is_empty() {
        return "%".to_owned(); // never the result of another name
    }
    let mut encoded = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(char::from(byte)),
            b'.' if at > 0 => encoded.push('.'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    if encoded.len() > ENCODED_BYTES_MAX {
        encoded.truncate(ENCODED_BYTES_MAX - 33);
        // `%%` is never the result of encoding.
        encoded.push_str(&format!("%%{:032x}", xxh3_128(name.as_bytes())));
    }
    encoded
}

/// Decodes `%41` in a URL; `None` if what follows a `%` is not two hexadecimal digits or the result not UTF-8.
pub(crate) fn decode_url(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        let digits = piece
            .get(..2)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// Whether a text that was read can be the name of a run or of a layer's file.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']) && !name.contains(char::is_control)
}

/// Where the files of a run are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunPaths {
    folder: String,
}

impl RunPaths {
    pub(crate) fn new(job: &str, run: &str) -> Self {
        RunPaths {
            folder: format!("{}/{run}", encode(job)),
        }
    }

    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    pub(crate) fn description(&self) -> String {
        format!("{}/run.json", self.folder)
    }

    pub(crate) fn checkpoint(&self, id: CheckpointId) -> String {
        format!("{}/{CHECKPOINT_PREFIX}{id}", self.folder)
    }

    pub(crate) fn metadata(&self, id: CheckpointId) -> String {
        format!("{}/{METADATA_FILE}", self.checkpoint(id))
    }

    pub(crate) fn shared(&self) -> String {
        format!("{}/shared", self.folder)
    }

    pub(crate) fn layer(&self, file: &str) -> String {
        format!("{}/shared/{file}", self.folder)
    }
}

/// Name of the file with what a subtask handed over at a checkpoint.
pub(crate) fn layer_file(id: CheckpointId, operator: &str, subtask: u32, piece: usize) -> String {
    let operator = encode(operator);
    match piece {
        0 => format!("{id}-{operator}-{subtask}.arrow"),
        _ => format!("{id}-{operator}-{subtask}-{piece}.arrow"),
    }
}

/// Name of the file with entries of a large state, by number, that a subtask handed over at a checkpoint.
pub(crate) fn large_file(id: CheckpointId, operator: &str, subtask: u32, number: usize, piece: usize) -> String {
    format!("{id}-{}-{subtask}-large{number}.{piece}.arrow", encode(operator))
}

/// Name of a file with rows that were under way to a subtask at a checkpoint, by number.
pub(crate) fn rows_file(id: CheckpointId, operator: &str, subtask: u32, number: usize) -> String {
    format!("{id}-{}-{subtask}-rows{number}.arrow", encode(operator))
}

/// The checkpoint at which a layer was written.
pub(crate) fn checkpoint_of_layer(file: &str) -> Option<CheckpointId> {
    Some(CheckpointId(file.split_once('-')?.0.parse().ok()?))
}

/// The checkpoint that a folder of a run is of, if it is one's.
pub(crate) fn checkpoint_of_folder(folder: &str) -> Option<CheckpointId> {
    let digits = folder.strip_prefix(CHECKPOINT_PREFIX)?;
    let id = CheckpointId(digits.parse().ok()?);
    (id.to_string() == digits).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        let long = "ü".repeat(100);
        for (name, expect) in [
            ("", "%"),
            ("flights", "flights"),
            ("a b/c", "a%20b%2Fc"),
            (".", "%2E"),
            ("..", "%2E."),
            ("v1.2", "v1.2"),
            ("50%", "50%25"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(encode(name), expect);
        }
        assert_eq!(encode(&long).len(), ENCODED_BYTES_MAX + 1);
        assert_ne!(encode(&long), encode(&(long.clone() + "ü")));
    }

    #[test]
    fn urls_are_decoded() {
        for (text, expect) in [
            ("/a%20b", Some("/a b")),
            ("/%C3%BC", Some("/ü")),
            ("/%", None),
            ("/%+1", None),
            ("/%C3", None),
            ("/%é", None),
        ] {
            assert_eq!(decode_url(text).as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn folders_of_checkpoints_are_known() {
        for (folder, expect) in [
            ("chk-12", Some(12)),
            ("chk-012", None),
            ("chk-", None),
            ("chk-+1", None),
            ("shared", None),
        ] {
            assert_eq!(checkpoint_of_folder(folder), expect.map(CheckpointId), "{folder}");
        }
    }
}
