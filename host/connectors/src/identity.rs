//! Which sink of which job something outside belongs to: transactions, connections and marks carry it in their names.
//! Keys of webhooks are not for people, so with them alone there is no name to show.

use millrace_core::connector::SinkContext;
use xxhash_rust::xxh3::xxh3_128;

/// Letters of a job's name that are kept.
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
const JOB_CHARS_MAX: usize = 60;

/// Of a sink: the same for ever, another for any other sink or job, or any other `id`, which the user gives to tell
/// jobs of the same name apart.
pub(crate) fn hash(context: &SinkContext, id: &str) -> String {
    let mut text = Vec::new();
    for part in [context.job.as_str(), context.operator.as_str(), id] {
        text.extend((part.len() as u64).to_le_bytes());
        text.extend(part.as_bytes());
    }
    format!("{:032x}", xxh3_128(&text))
}

/// A job's name for people who meet it outside: short, and of letters that need no quotes anywhere.
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(crate) fn job(context: &SinkContext) -> String {
    let plain = |character: char| if is_plain(character) { character } else { '-' };
    context.job.chars().take(JOB_CHARS_MAX).map(plain).collect()
}

/// Whether a character needs no quotes.
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(crate) fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '-' || character == '_'
}
