//! The descriptions of a run and of a checkpoint: JSON that carries a checksum of itself.
//!
//! ```text
//! {"checksum":"<32 hexadecimal digits>","checkpoint":<content>}\n
//! ```
//!
//! The checksum is the XXH3-128 of the bytes of `<content>` as they are in the file, so that nobody has to
//! agree on how JSON is spelt. Every version has this envelope and says `format_version` in its content.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millrace_core::block::Millis;
use millrace_core::checkpoint::{CheckpointId, SplitSnapshot};
use millrace_core::connector::{Committable, Position};
use millrace_core::time::civil;
use millrace_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

use super::in_flight::{FileRef, InFlight, InFlightRows, InFlightSize};
use crate::savepoint::SavedSchema;
use crate::{codes, names};
use millrace_core::graph::SUBTASK_KEY;

/// The newest version of the format that this crate reads. What needs an older one only is written as that, so that older
/// readers read it too.
pub const FORMAT_VERSION: u32 = 3;

/// The version without [`Subtask::collections`].
const WITHOUT_COLLECTIONS: u32 = 2;

/// The version without [`Subtask::in_flight`].
pub(crate) const WITHOUT_IN_FLIGHT: u32 = 1;

/// The oldest version that has a place for all that is described.
pub(crate) fn version_of(operators: &[Operator]) -> u32 {
    let mut subtasks = operators.iter().flat_map(|operator| &operator.subtasks);
    if subtasks.clone().any(|subtask| !subtask.collections.is_empty()) {
        FORMAT_VERSION
    } else if subtasks.any(|subtask| !subtask.in_flight.is_empty()) {
        WITHOUT_COLLECTIONS
    } else {
        WITHOUT_IN_FLIGHT
    }
}

/// One run of a job: what `run.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Version of the format in which it was written.
    pub format_version: u32,
    /// Name of the job.
    pub job: String,
    /// Id of the run; of two runs of a job the later one has the greater.
    pub run: String,
    /// SHA-256 of the pipeline's component, hexadecimal.
    pub pipeline: String,
    /// When the run started, ms since 1970-01-01 UTC.
    pub started_ms: Millis,
    /// URL of the savepoint or checkpoint of another run that it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The run deletes what it began with when it needs it no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claimed: bool,
}

impl Run {
    /// A run of the job that starts at `now`. `random` keeps runs apart that start in the same millisecond.
    ///
    /// ```
    /// # use millrace_state::Run;
    /// let run = Run::new("flights", "ab12", 1_700_000_000_123, 0xC0FFEE);
    /// assert_eq!(run.run, "20231114T221320.123Z-00c0ffee");
    /// ```
    pub fn new(job: &str, pipeline: &str, now: Millis, random: u32) -> Run {
        Run {
            format_version: WITHOUT_IN_FLIGHT,
            job: job.to_owned(),
            run: stamp(now, random),
            pipeline: pipeline.to_owned(),
            started_ms: now,
            from: None,
            claimed: false,
        }
    }
}

/// A moment and a random number, as in the names of runs and savepoints: in the order of time.
pub(crate) fn stamp(time: Millis, random: u32) -> String {
    format!("{}-{random:08x}", timestamp(time))
}

/// UTC as `20231114T221320.123Z`; times outside of the years 0 to 9999 are taken for the nearest in them.
fn timestamp(time: Millis) -> String {
    let time = time.clamp(-62_167_219_200_000, 253_402_300_799_999);
    let (days, millis) = (time.div_euclid(86_400_000), time.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{millis:03}Z")
}

/// What a checkpoint was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// To recover from failures; deleted when newer ones are there.
    Checkpoint,
    /// The last one of a job that ended or was stopped.
    Final,
    /// Owned by the user.
    Savepoint,
}

/// A complete checkpoint: what `metadata.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Version of the format in which it was written.
    pub format_version: u32,
    /// Name of the job.
    pub job: String,
    /// Id of the run.
    pub run: String,
    /// Id of the checkpoint.
    pub checkpoint: CheckpointId,
    /// What it was taken for.
    pub kind: Kind,
    /// SHA-256 of the pipeline's component, hexadecimal.
    pub pipeline: String,
    /// Parameters of the job by name.
    pub parameters: BTreeMap<String, String>,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// When it was triggered.
    pub started_ms: Millis,
    /// When the last subtask's state was stored.
    pub completed_ms: Millis,
    /// The operators that were snapshotted.
    pub operators: Vec<Operator>,
}

impl Metadata {
    /// The operator of this id.
    pub fn operator(&self, id: &str) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.id == id)
    }

    /// All layers of all operators. A file is in it once.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        let subtasks = self.operators.iter().flat_map(|operator| &operator.subtasks);
        subtasks.flat_map(|subtask| {
            let collections = subtask.collections.iter().flat_map(|large| &large.layers);
            subtask.layers.iter().chain(collections)
        })
    }

    /// All files: layers, and rows in flight. Each is in it once.
    pub fn files(&self) -> impl Iterator<Item = FileRef<'_>> {
        let rows = self.all_in_flight().filter_map(|in_flight| in_flight.rows.as_ref());
        self.layers().map(Layer::file).chain(rows.map(InFlightRows::file))
    }

    fn all_in_flight(&self) -> impl Iterator<Item = &InFlight> {
        let subtasks = self.operators.iter().flat_map(|operator| &operator.subtasks);
        subtasks.flat_map(|subtask| &subtask.in_flight)
    }

    /// Bytes of all files: what a restart reads.
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.bytes).sum()
    }

    /// What was under way in channels.
    pub fn in_flight(&self) -> InFlightSize {
        let mut size = InFlightSize::default();
        for in_flight in self.all_in_flight() {
            let elements = in_flight.channels.iter().map(|channel| channel.elements.len());
            size.elements += elements.sum::<usize>() as u64;
            if let Some(rows) = &in_flight.rows {
                size.rows += rows.rows;
                size.bytes += rows.bytes;
            }
        }
        size
    }
}

/// One operator in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Its uid, or what stands for it.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Number of its subtasks.
    pub parallelism: u32,
    /// Kind of its connector, if it is a source or sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// What it keeps by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyed: Option<SavedSchema>,
    /// Its subtasks by number.
    pub subtasks: Vec<Subtask>,
}

/// One subtask in a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subtask {
    /// Watermark that it had reached, if any.
    pub watermark: Option<Millis>,
    /// All its inputs had ended.
    pub finished: bool,
    /// Splits that it read.
    pub splits: Vec<Split>,
    /// What it had pre-committed.
    pub committables: Vec<Blob>,
    /// Entries in its table.
    pub live_rows: u64,
    /// Its table: layers to be laid over each other, the oldest first.
    pub layers: Vec<Layer>,
    /// Its large states, each a table of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<Collection>,
    /// Its input channels, by edge, if the checkpoint was one that may overtake rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<InFlight>,
}

/// A large state of a subtask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Name of the state.
    pub state: String,
    /// Entries in it, about.
    pub live_rows: u64,
    /// Layers to be laid over each other, the oldest first.
    pub layers: Vec<Layer>,
}

impl Operator {
    /// Whether its state is that of subtasks rather than keys: [`share`](crate::redistribute::share) gives each all of it.
    pub fn is_unkeyed(&self) -> bool {
        let keyed = self.keyed.as_ref();
        keyed.is_some_and(|keyed| matches!(keyed.key.as_slice(), [key] if key.name == SUBTASK_KEY))
    }

    /// Whether each subtask has all of this state.
    pub fn is_broadcast(&self, state: &str) -> bool {
        let states = self.keyed.iter().flat_map(|keyed| &keyed.states);
        let mut broadcast = states.filter(|column| column.broadcast);
        broadcast.any(|column| column.name == state)
    }
}

impl Subtask {
    /// The large state of this name, if it holds something of it.
    pub fn collection(&self, state: &str) -> Option<&Collection> {
        self.collections.iter().find(|large| large.state == state)
    }
}

/// How far a source has read a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Which split.
    pub id: String,
    /// Where reading continues.
    pub position: Blob,
    /// Latest event time met in it.
    pub max_time: Option<Millis>,
}

/// A file with entries of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Layer {
    /// Name in the folder `shared` of the run.
    pub file: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// XXH3-128 of its bytes, hexadecimal.
    pub checksum: String,
    /// The first and the last key group of its rows.
    pub groups: [u32; 2],
}

/// Bytes that only their connector understands; base64 in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Blob).map_err(serde::de::Error::custom)
    }
}

impl From<SplitSnapshot> for Split {
    fn from(split: SplitSnapshot) -> Self {
        Split {
            id: split.id,
            position: Blob(split.position.0),
            max_time: split.max_time,
        }
    }
}

impl From<Split> for SplitSnapshot {
    fn from(split: Split) -> Self {
        SplitSnapshot {
            id: split.id,
            position: Position(split.position.0),
            max_time: split.max_time,
        }
    }
}

impl From<Committable> for Blob {
    fn from(committable: Committable) -> Self {
        Blob(committable.0)
    }
}

/// How the two kinds of descriptions are enveloped.
const CHECKPOINT: &str = "checkpoint";
const RUN: &str = "run";

pub(crate) fn write_metadata(metadata: &Metadata) -> Bytes {
    envelope(CHECKPOINT, metadata)
}

pub(crate) fn write_run(run: &Run) -> Bytes {
    envelope(RUN, run)
}

/// The checkpoint that `content` describes; `shown` names the file.
pub(crate) fn read_metadata(content: &[u8], shown: &str) -> Result<Metadata> {
    let metadata: Metadata = open_envelope(CHECKPOINT, FORMAT_VERSION, content, shown)?;
    match unsound(&metadata) {
        Some(why) => Err(damaged(shown, &why)),
        None => Ok(metadata),
    }
}

/// The run that `content` describes; `shown` names the file.
pub(crate) fn read_run(content: &[u8], shown: &str) -> Result<Run> {
    open_envelope(RUN, FORMAT_VERSION, content, shown)
}

pub(crate) fn envelope(what: &str, value: &impl Serialize) -> Bytes {
    let content = serde_json::to_string(value).expect("plain data with text keys is JSON");
    let checksum = xxh3_128(content.as_bytes());
    format!("{{\"checksum\":\"{checksum:032x}\",\"{what}\":{content}}}\n").into()
}

/// The content of an envelope of a version up to `newest`.
pub(crate) fn open_envelope<T: DeserializeOwned>(what: &str, newest: u32, content: &[u8], shown: &str) -> Result<T> {
    let content = opened(what, content).ok_or_else(|| damaged(shown, "its checksum is not that of its content"))?;
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let parse = |error: serde_json::Error| damaged(shown, &error.to_string());
    let Version { format_version } = serde_json::from_slice(content).map_err(parse)?;
    if format_version > newest {
        let versions = format!("format version {format_version}, and this one reads up to {newest}");
        let message = format!("`{shown}` was written by a newer Millrace: it has {versions}");
        return Err(Error::user(codes::NEWER, message));
    }
    serde_json::from_slice(content).map_err(parse)
}

/// The content of an envelope whose checksum is right.
fn opened<'a>(what: &str, file: &'a [u8]) -> Option<&'a [u8]> {
    let rest = file.strip_prefix(b"{\"checksum\":\"")?;
    let (checksum, rest) = rest.split_at_checked(32)?;
    let rest = rest.strip_prefix(b"\",\"")?.strip_prefix(what.as_bytes())?;
    let content = rest.strip_prefix(b"\":")?.strip_suffix(b"}\n")?;
    let expect = format!("{:032x}", xxh3_128(content));
    (checksum == expect.as_bytes()).then_some(content)
}

pub(crate) fn damaged(shown: &str, why: &str) -> Error {
    Error::external(codes::METADATA, format!("`{shown}` is damaged: {why}"))
}

/// What a file with a sound checksum must not say all the same: others compute with it.
fn unsound(metadata: &Metadata) -> Option<String> {
    if metadata.max_parallelism == 0 {
        return Some("no key groups".to_owned());
    }
    for operator in &metadata.operators {
        if operator.subtasks.len() != operator.parallelism as usize {
            let (count, parallelism) = (operator.subtasks.len(), operator.parallelism);
            let id = &operator.id;
            return Some(format!(
                "{count} subtasks of operator `{id}` with parallelism {parallelism}"
            ));
        }
        let has_layers = |subtask: &Subtask| !subtask.layers.is_empty() || !subtask.collections.is_empty();
        let has_layers = operator.subtasks.iter().any(has_layers);
        if has_layers && operator.parallelism > metadata.max_parallelism {
            return Some(format!("operator `{}` has more subtasks than key groups", operator.id));
        }
    }
    if metadata.format_version == WITHOUT_IN_FLIGHT && metadata.all_in_flight().next().is_some() {
        return Some("rows in flight in a version that has none".to_owned());
    }
    for in_flight in metadata.all_in_flight() {
        if let Some(why) = in_flight.unsound() {
            return Some(why);
        }
    }
    metadata.layers().find_map(|layer| {
        let [first, last] = layer.groups;
        let sound = names::is_plain(&layer.file) && first <= last && last < metadata.max_parallelism;
        (!sound).then(|| format!("layer `{}` with key groups {first} to {last}", layer.file))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Metadata {
        Metadata {
            format_version: WITHOUT_IN_FLIGHT,
            job: "job".to_owned(),
            run: "run".to_owned(),
            checkpoint: CheckpointId(3),
            kind: Kind::Checkpoint,
            pipeline: "00ff".to_owned(),
            parameters: [("a".to_owned(), "\"ü\"".to_owned())].into(),
            max_parallelism: 128,
            started_ms: 1,
            completed_ms: 2,
            operators: vec![Operator {
                id: "count".to_owned(),
                name: "count".to_owned(),
                parallelism: 1,
                connector: Some("files".to_owned()),
                keyed: None,
                subtasks: vec![Subtask {
                    watermark: Some(i64::MAX),
                    splits: vec![Split {
                        id: "a.csv".to_owned(),
                        position: Blob(vec![0, 255]),
                        max_time: None,
                    }],
                    layers: vec![Layer {
                        file: "3-count-0.arrow".to_owned(),
                        rows: 1,
                        bytes: 2,
                        checksum: "0".repeat(32),
                        groups: [0, 127],
                    }],
                    ..Subtask::default()
                }],
            }],
        }
    }

    #[test]
    fn metadata_comes_back() {
        let file = write_metadata(&sample());
        assert_eq!(read_metadata(&file, "x").unwrap(), sample());
        // Others read it as JSON.
        let json: serde_json::Value = serde_json::from_slice(&file).unwrap();
        assert_eq!(
            json["checkpoint"]["operators"][0]["subtasks"][0]["splits"][0]["position"],
            "AP8="
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let file = write_metadata(&sample());
        for at in 0..file.len() * 8 {
            let mut flipped = file.to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            let error = read_metadata(&flipped, "a/metadata.json").unwrap_err();
            assert_eq!(error.code(), codes::METADATA, "bit {at}");
            assert!(error.to_string().contains("a/metadata.json"), "{error}");
        }
        for end in 0..file.len() {
            assert_eq!(read_metadata(&file[..end], "x").unwrap_err().code(), codes::METADATA);
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let newer = serde_json::json!({"format_version": FORMAT_VERSION + 1, "anything": []});
        let error = read_metadata(&envelope(CHECKPOINT, &newer), "x").unwrap_err();
        assert_eq!((error.code(), error.fault().exit_code()), (codes::NEWER, 2));
        assert!(
            error
                .to_string()
                .contains(&format!("format version {}", FORMAT_VERSION + 1)),
            "{error}"
        );
    }

    #[test]
    fn what_others_compute_with_is_checked() {
        let check = |change: fn(&mut Metadata)| {
            let mut metadata = sample();
            change(&mut metadata);
            let error = read_metadata(&write_metadata(&metadata), "x").unwrap_err();
            assert_eq!(error.code(), codes::METADATA, "{error}");
        };
        check(|metadata| metadata.max_parallelism = 0);
        check(|metadata| metadata.max_parallelism = 127);
        check(|metadata| metadata.operators[0].parallelism = 2);
        check(|metadata| metadata.operators[0].subtasks[0].layers[0].file = "../x".to_owned());
        check(|metadata| metadata.operators[0].subtasks[0].layers[0].groups = [2, 1]);
    }

    #[test]
    fn times_are_written_as_people_read_them() {
        for (time, expect) in [
            (0, "19700101T000000.000Z"),
            (-1, "19691231T235959.999Z"),
            (951_782_400_000, "20000229T000000.000Z"),
            (1_709_210_096_789, "20240229T123456.789Z"),
            (4_107_542_400_000, "21000301T000000.000Z"),
            (i64::MAX, "99991231T235959.999Z"),
            (i64::MIN, "00000101T000000.000Z"),
        ] {
            assert_eq!(timestamp(time), expect);
        }
    }
}
