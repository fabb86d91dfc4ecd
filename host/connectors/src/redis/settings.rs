//! Options of the `redis` sink. Nothing is asked of the server here.

use arrow_schema::{DataType, Schema};
use millrace_core::connector::Options;
use millrace_core::{Error, Result};

use super::template::Template;
use super::tls::Tls;
use crate::password::Password;
use crate::write_ahead::Limits;

/// Rows that are written in one transaction: while it runs, a server does nothing else.
const BATCH_ROWS_DEFAULT: usize = 1_000;

/// Bytes of rows of one subtask that may wait for checkpoints: they are in memory, and in the checkpoint's description.
const LOG_BYTES_DEFAULT: usize = 64 << 20;

/// Some three hundred years.
const EXPIRE_SECONDS_MAX: u64 = 10_000_000_000;

/// What a row becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Structure {
    /// `SET key value`.
    String,
    /// `HSET key column value ...`, and `HDEL` of those that are null.
    Hash,
    /// `RPUSH key value`.
    List,
    /// `XADD key * column value ...`.
    Stream,
    /// `ZADD key score value`.
    SortedSet,
    /// `PUBLISH key value`.
    Channel,
}

impl Structure {
    const ALL: [(&'static str, Structure); 6] = [
        ("string", Structure::String),
        ("hash", Structure::Hash),
        ("list", Structure::List),
        ("stream", Structure::Stream),
        ("sorted-set", Structure::SortedSet),
        ("channel", Structure::Channel),
    ];

    /// Whether writing a row again changes nothing.
    pub(super) fn is_idempotent(self) -> bool {
        match self {
            Structure::String | Structure::Hash | Structure::SortedSet => true,
            Structure::List | Structure::Stream | Structure::Channel => false,
        }
    }

    /// What `TYPE` says of a key that will do; `None`: any will.
    pub(super) fn redis_type(self) -> Option<&'static str> {
        match self {
            Structure::String | Structure::Channel => None,
            Structure::Hash => Some("hash"),
            Structure::List => Some("list"),
            Structure::Stream => Some("stream"),
            Structure::SortedSet => Some("zset"),
        }
    }
}

/// When rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// When their checkpoint is complete.
    ExactlyOnce,
    /// As they come.
    Immediate,
}

/// What the pipeline asks for.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) url: String,
    pub(super) password: Password,
    pub(super) tls: Tls,
    pub(super) structure: Structure,
    pub(super) mode: Mode,
    pub(super) key: Template,
    /// `None`: the row as a JSON object.
    pub(super) value: Option<Template>,
    pub(super) score: Option<String>,
    pub(super) expire_seconds: Option<u64>,
    pub(super) length_max: Option<u64>,
    pub(super) limits: Limits,
    /// Tells jobs of the same name apart.
    pub(super) id: String,
}

impl Settings {
    pub(super) fn take(mut options: Options, schema: &Schema) -> Result<Self> {
        let url = options.required("url")?;
        let structure = options.required("structure")?;
        let key = options.required("key")?;
        let value = options.text("value");
        let settings = Settings {
            url,
            password: Password::take(&mut options)?,
            tls: Tls::take(&mut options)?,
            structure: named("structure", &structure, &Structure::ALL)?,
            mode: match options.text("mode") {
                None => Mode::ExactlyOnce,
                Some(mode) => named(
                    "mode",
                    &mode,
                    &[("exactly-once", Mode::ExactlyOnce), ("immediate", Mode::Immediate)],
                )?,
            },
            key: Template::parse("key", &key)?,
            value: value.map(|value| Template::parse("value", &value)).transpose()?,
            score: options.text("score"),
            expire_seconds: options.parsed("expire.seconds", "a number of seconds")?,
            length_max: options.parsed("length.max", "a number of entries")?,
            limits: Limits {
                rows_per_entry: options
                    .parsed("batch.rows", "a number of rows")?
                    .unwrap_or(BATCH_ROWS_DEFAULT),
                bytes_max: options
                    .parsed("log.bytes", "a number of bytes")?
                    .unwrap_or(LOG_BYTES_DEFAULT),
                otherwise: "raise option `log.bytes`, or write without waiting (option `mode` = `immediate`)",
            },
            id: options.text("id").unwrap_or_default(),
        };
        options.finish()?;
        settings.check(schema)?;
        Ok(settings)
    }

    fn check(&self, schema: &Schema) -> Result<()> {
        use Structure::*;
        let misplaced = |option: &str, is_given: bool, of: &[Structure]| {
            if !is_given || of.contains(&self.structure) {
                return Ok(());
            }
            let names = Structure::ALL.iter().filter(|(_, structure)| of.contains(structure));
            let names = names.map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            Err(refused(format!("option `{option}` is for these structures: {names}")))
        };
        misplaced("value", self.value.is_some(), &[String, List, SortedSet, Channel])?;
        misplaced("score", self.score.is_some(), &[SortedSet])?;
        misplaced("expire.seconds", self.expire_seconds.is_some(), &[String, Hash])?;
        misplaced("length.max", self.length_max.is_some(), &[Stream])?;
        let zero = [
            ("batch.rows", self.limits.rows_per_entry == 0),
            ("log.bytes", self.limits.bytes_max == 0),
            ("expire.seconds", self.expire_seconds == Some(0)),
            ("length.max", self.length_max == Some(0)),
        ];
        if let Some((option, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            return Err(refused(format!("option `{option}` must be above 0")));
        }
        // Redis would notice only in the middle of a transaction, which it does not undo.
        if self.expire_seconds.is_some_and(|seconds| seconds > EXPIRE_SECONDS_MAX) {
            return Err(refused(format!(
                "option `expire.seconds` must be at most {EXPIRE_SECONDS_MAX}"
            )));
        }
        if schema.fields().is_empty() {
            return Err(refused("rows without columns cannot be written".to_owned()));
        }
        self.key.check("key", schema, false)?;
        if let Some(value) = &self.value {
            value.check("value", schema, true)?;
        }
        if self.structure == SortedSet {
            let score = self.score.as_deref();
            let score =
                score.ok_or_else(|| refused("a sorted set needs option `score`: a column of numbers".to_owned()))?;
            let is_number = |field: &arrow_schema::Field| {
                !field.is_nullable()
                    && (field.data_type().is_integer()
                        || matches!(field.data_type(), DataType::Float32 | DataType::Float64))
            };
            if !schema.field_with_name(score).is_ok_and(is_number) {
                return Err(refused(format!(
                    "option `score`: `{score}` is no column of numbers without nulls"
                )));
            }
        }
        Ok(())
    }
}

fn refused(message: String) -> Error {
    Error::user("CN0140", message)
}

fn named<T: Copy>(option: &str, text: &str, all: &[(&str, T)]) -> Result<T> {
    let found = all.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        refused(format!(
            "option `{option}` is `{text}`, not one of {}",
            names.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use arrow_schema::Field;

    use super::*;
    use crate::testing::options;

    fn take(more: &[(&str, &str)]) -> Result<Settings> {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("note", DataType::Utf8, true),
            Field::new("points", DataType::Float64, false),
        ]);
        let mut pairs = vec![("url", "redis://localhost"), ("key", "k:{id}")];
        pairs.extend(more);
        Settings::take(options(&pairs), &schema)
    }

    #[test]
    fn structures() {
        for (name, structure) in Structure::ALL {
            let more: &[(&str, &str)] = match structure {
                Structure::SortedSet => &[("structure", name), ("score", "points")],
                _ => &[("structure", name)],
            };
            let settings = take(more).unwrap();
            assert_eq!((settings.structure, settings.mode), (structure, Mode::ExactlyOnce));
        }
        let settings = take(&[("structure", "string"), ("mode", "immediate"), ("value", "{note}")]).unwrap();
        assert_eq!(settings.mode, Mode::Immediate);
    }

    #[test]
    fn what_does_not_go_together() {
        let check = |more: &[(&str, &str)], part: &str| {
            let error = take(more).unwrap_err();
            assert_eq!(error.code(), "CN0140", "{error}");
            assert!(error.to_string().contains(part), "{part}: {error}");
        };
        check(&[("structure", "set")], "sorted-set");
        check(&[("structure", "hash"), ("mode", "later")], "immediate");
        check(
            &[("structure", "hash"), ("value", "{id}")],
            "string, list, sorted-set, channel",
        );
        check(&[("structure", "list"), ("score", "points")], "`score`");
        check(&[("structure", "list"), ("expire.seconds", "5")], "string, hash");
        check(&[("structure", "list"), ("length.max", "5")], "stream");
        check(&[("structure", "stream"), ("length.max", "0")], "above 0");
        check(&[("structure", "hash"), ("expire.seconds", "10000000001")], "at most");
        check(&[("structure", "string"), ("batch.rows", "0")], "above 0");
        check(&[("structure", "sorted-set")], "needs option `score`");
        check(&[("structure", "sorted-set"), ("score", "note")], "`note`");
        check(&[("structure", "string"), ("value", "{x}")], "`x`");
    }
}
