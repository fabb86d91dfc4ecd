//! What was under way in the input channels of a subtask: its order in the metadata, its rows in a file per edge.
//!
//! The file is an Arrow IPC file with a batch for each block, in the order in which the metadata names them: the
//! user's columns, then the event time if blocks carried it, then the columns of a computed key. Columns are known by
//! their place, for a user's may have any name.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use millrace_core::block::{Block, Element, Millis, WATERMARK_MIN};
use millrace_core::checkpoint::{ChannelSnapshot, EdgeName};
use millrace_core::{Error, Result};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::layer::{COMPRESSION, checksum};
use crate::savepoint::schema::Column;
use crate::{codes, names};

/// A file of a checkpoint and how to tell that it is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRef<'a> {
    /// Name in the folder `shared` of the run.
    pub file: &'a str,
    /// Its size.
    pub bytes: u64,
    /// XXH3-128 of its bytes, hexadecimal.
    pub checksum: &'a str,
}

/// How much was under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlightSize {
    /// Blocks, watermarks and idle marks.
    pub elements: u64,
    /// Rows in the blocks.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// The channels of one edge into a subtask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Which edge.
    #[serde(flatten)]
    pub edge: EdgeName,
    /// Its rows, if any were under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<InFlightRows>,
    /// By sender.
    pub channels: Vec<InFlightChannel>,
}

/// The file with the rows under way on an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightRows {
    /// Name in the folder `shared` of the run.
    pub file: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// XXH3-128 of its bytes, hexadecimal.
    pub checksum: String,
    /// [`fingerprint`] of the edge's schema.
    pub schema: String,
    /// The event time is a column.
    pub times: bool,
    /// Number of columns of a computed key.
    pub keys: u32,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightChannel {
    /// Number of the sending subtask.
    pub sender: u32,
    /// Last watermark that was taken from it; `None`: none yet.
    pub watermark: Option<Millis>,
    /// Whether it was idle then.
    pub idle: bool,
    /// What came behind that and was not taken, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<InFlightElement>,
}

/// What was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InFlightElement {
    /// A block of so many rows: the next batch of the file.
    Rows(u64),
    /// A watermark.
    Watermark(Millis),
    /// The channel became idle.
    Idle,
}

impl InFlightRows {
    /// Its file.
    pub fn file(&self) -> FileRef<'_> {
        FileRef {
            file: &self.file,
            bytes: self.bytes,
            checksum: &self.checksum,
        }
    }
}

impl InFlight {
    /// Rows that the channels name, in order.
    fn blocks(&self) -> impl Iterator<Item = u64> {
        let elements = self.channels.iter().flat_map(|channel| &channel.elements);
        elements.filter_map(|element| match element {
            InFlightElement::Rows(rows) => Some(*rows),
            InFlightElement::Watermark(_) | InFlightElement::Idle => None,
        })
    }

    /// What does not fit together.
    pub(super) fn unsound(&self) -> Option<String> {
        let rows: u64 = self.blocks().sum();
        match &self.rows {
            None if rows == 0 => None,
            Some(stored) if stored.rows == rows && names::is_plain(&stored.file) => None,
            _ => Some(format!(
                "{rows} rows in flight from `{}`, but another file",
                self.edge.from
            )),
        }
    }

    /// The channels with what was under way. `content` is that of the file, found sound; `shown` names it.
    pub(crate) fn decode(&self, content: Option<Bytes>, shown: &str) -> Result<Vec<ChannelSnapshot>> {
        let unsound = |why: &str| Error::external(codes::DAMAGED, format!("`{shown}` is no sound file of rows: {why}"));
        let mut blocks = match (&self.rows, content) {
            (Some(rows), Some(content)) => rows.read(content).map_err(|why| unsound(&why))?,
            (Some(_), None) => return Err(unsound("it is missing")),
            (None, _) => Vec::new(),
        };
        if !self.blocks().eq(blocks.iter().map(|block| block.row_count() as u64)) {
            return Err(unsound("its blocks are not those that the checkpoint names"));
        }
        let mut blocks = blocks.drain(..);
        let channels = self.channels.iter().map(|channel| {
            let element = |element: &InFlightElement| match element {
                InFlightElement::Rows(_) => blocks.next().map(Element::Block),
                InFlightElement::Watermark(watermark) => Some(Element::Watermark(*watermark)),
                InFlightElement::Idle => Some(Element::Idle),
            };
            ChannelSnapshot {
                edge: self.edge.clone(),
                sender: channel.sender,
                watermark: channel.watermark.unwrap_or(WATERMARK_MIN),
                idle: channel.idle,
                elements: channel.elements.iter().filter_map(element).collect(),
            }
        });
        Ok(channels.collect())
    }
}

impl InFlightRows {
    /// The user's columns of its rows. `content` is that of the file, found sound; `shown` names it.
    pub(crate) fn decode_schema(&self, content: Bytes, shown: &str) -> Result<SchemaRef> {
        let reader = FileReader::try_new(Cursor::new(content), None).map_err(|error| error.to_string());
        let schema = reader.and_then(|reader| self.user_schema(&reader.schema()));
        schema.map_err(|why| Error::external(codes::DAMAGED, format!("`{shown}` is no sound file of rows: {why}")))
    }

    fn user_schema(&self, schema: &Schema) -> Result<SchemaRef, String> {
        let system = usize::from(self.times) + self.keys as usize;
        let users = schema.fields().len().checked_sub(system).ok_or("columns are missing")?;
        let fields: SchemaRef = Arc::new(Schema::new(schema.fields()[..users].to_vec()));
        if fingerprint(&fields).ok().as_deref() != Some(self.schema.as_str()) {
            return Err("its columns are not those that the checkpoint names".to_owned());
        }
        Ok(fields)
    }

    fn read(&self, content: Bytes) -> Result<Vec<Block>, String> {
        let reader = FileReader::try_new(Cursor::new(content), None).map_err(|error| error.to_string())?;
        let fields = self.user_schema(&reader.schema())?;
        let users = fields.fields().len();
        let mut blocks = Vec::new();
        for batch in reader {
            let batch = batch.map_err(|error| error.to_string())?;
            let mut columns = batch.columns()[users..].iter();
            let times = if self.times { columns.next() } else { None };
            let times = times.map(|times| {
                let times = times
                    .as_primitive_opt::<Int64Type>()
                    .filter(|times| times.null_count() == 0);
                times
                    .map(|times| times.values().clone())
                    .ok_or("its event times are none")
            });
            let keys: Vec<ArrayRef> = columns.cloned().collect();
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let rows = batch.columns()[..users].to_vec();
            let rows = RecordBatch::try_new_with_options(fields.clone(), rows, &options);
            blocks.push(Block {
                rows: rows.map_err(|error| error.to_string())?,
                times: times.transpose()?,
                keys: (!keys.is_empty()).then(|| keys.into()),
            });
        }
        Ok(blocks)
    }
}

/// XXH3-128 of a schema's description as JSON, hexadecimal: names, types, nullability, in order.
///
/// # Errors
/// For a type that no stream has.
pub fn fingerprint(schema: &Schema) -> Result<String> {
    let columns = Column::all(schema.fields())?;
    let text = serde_json::to_string(&columns).expect("plain data with text keys is JSON");
    Ok(format!("{:032x}", xxh3_128(text.as_bytes())))
}

/// Describes the channels of a subtask by edge, with the contents of the files of those that have rows. `name` gives
/// a file its name by a number.
pub(crate) fn encode(
    channels: &[ChannelSnapshot],
    name: impl Fn(usize) -> String,
) -> Result<Vec<(InFlight, Option<Bytes>)>> {
    let mut edges: Vec<&EdgeName> = channels.iter().map(|channel| &channel.edge).collect();
    edges.sort_unstable();
    edges.dedup();
    let encoded = edges.into_iter().enumerate().map(|(number, edge)| {
        let channels: Vec<&ChannelSnapshot> = channels.iter().filter(|channel| channel.edge == *edge).collect();
        let blocks = channels.iter().flat_map(|channel| &channel.elements).filter_map(block);
        let blocks: Vec<&Block> = blocks.collect();
        let (rows, content) = match blocks.first() {
            None => (None, None),
            Some(first) => {
                let content = to_file(&blocks).map_err(|error| error.context(format!("rows of `{}`", edge.from)))?;
                let rows = InFlightRows {
                    file: name(number),
                    rows: blocks.iter().map(|block| block.row_count() as u64).sum(),
                    bytes: content.len() as u64,
                    checksum: checksum(&content),
                    schema: fingerprint(first.rows.schema_ref())?,
                    times: first.times.is_some(),
                    keys: first.keys.as_ref().map_or(0, |keys| keys.len() as u32),
                };
                (Some(rows), Some(content))
            }
        };
        let in_flight = InFlight {
            edge: edge.clone(),
            rows,
            channels: channels.into_iter().map(describe).collect(),
        };
        Ok((in_flight, content))
    });
    encoded.collect()
}

fn block(element: &Element) -> Option<&Block> {
    match element {
        Element::Block(block) => Some(block),
        Element::Watermark(_) | Element::Idle | Element::Barrier(_) | Element::End => None,
    }
}

fn describe(channel: &ChannelSnapshot) -> InFlightChannel {
    let element = |element: &Element| match element {
        Element::Block(block) => Some(InFlightElement::Rows(block.row_count() as u64)),
        Element::Watermark(watermark) => Some(InFlightElement::Watermark(*watermark)),
        Element::Idle => Some(InFlightElement::Idle),
        Element::Barrier(_) | Element::End => None,
    };
    InFlightChannel {
        sender: channel.sender,
        watermark: (channel.watermark != WATERMARK_MIN).then_some(channel.watermark),
        idle: channel.idle,
        elements: channel.elements.iter().filter_map(element).collect(),
    }
}

/// All blocks of an edge have the same columns.
fn to_file(blocks: &[&Block]) -> Result<Bytes> {
    let failed = |error: arrow_schema::ArrowError| Error::internal(format!("they cannot be encoded: {error}"));
    let mut writer: Option<FileWriter<Vec<u8>>> = None;
    for block in blocks {
        let batch = widen(block).map_err(failed)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let options = IpcWriteOptions::default()
                    .try_with_compression(Some(COMPRESSION))
                    .map_err(failed)?;
                let made = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).map_err(failed)?;
                none.insert(made)
            }
        };
        if writer.schema() != &batch.schema() {
            return Err(Error::internal("the blocks of an edge differ in their columns"));
        }
        writer.write(&batch).map_err(failed)?;
    }
    match writer {
        Some(writer) => Ok(writer.into_inner().map_err(failed)?.into()),
        None => Ok(Bytes::new()),
    }
}

/// The block as one batch: the system columns behind the user's.
fn widen(block: &Block) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let mut fields: Vec<Arc<Field>> = block.rows.schema().fields().iter().cloned().collect();
    let mut columns = block.rows.columns().to_vec();
    if let Some(times) = &block.times {
        fields.push(Arc::new(Field::new("$time", DataType::Int64, false)));
        columns.push(Arc::new(Int64Array::new(times.clone(), None)));
    }
    for (number, key) in block.keys.iter().flat_map(|keys| keys.iter()).enumerate() {
        fields.push(Arc::new(Field::new(
            format!("$key {number}"),
            key.data_type().clone(),
            true,
        )));
        columns.push(key.clone());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(block.row_count()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;

    use super::*;

    fn edge(from: &str) -> EdgeName {
        EdgeName {
            from: from.to_owned(),
            port: 1,
            input: 2,
            number: 0,
        }
    }

    fn users(values: &[&str]) -> RecordBatch {
        let values: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("$time", values, false)]).unwrap()
    }

    fn full_block(values: &[&str]) -> Block {
        let times: Vec<i64> = (0..values.len() as i64).collect();
        let key: ArrayRef = Arc::new(Int64Array::from(times.clone()));
        Block {
            rows: users(values),
            times: Some(times.into()),
            keys: Some([key].into()),
        }
    }

    fn channel(from: &str, sender: u32, elements: Vec<Element>) -> ChannelSnapshot {
        ChannelSnapshot {
            edge: edge(from),
            sender,
            watermark: if sender == 0 { WATERMARK_MIN } else { 7 },
            idle: sender == 1,
            elements,
        }
    }

    #[test]
    fn channels_come_back_in_their_order() {
        let sliced = full_block(&["a", "b", "c"]);
        let sliced = Block {
            rows: sliced.rows.slice(1, 2),
            times: sliced.times.map(|times| times.slice(1, 2)),
            keys: sliced.keys.map(|keys| keys.iter().map(|key| key.slice(1, 2)).collect()),
        };
        let channels = [
            channel("b", 0, vec![Element::Block(Block::new(users(&["x"])))]),
            channel(
                "a",
                0,
                vec![
                    Element::Block(sliced),
                    Element::Watermark(5),
                    Element::Block(full_block(&["ü"])),
                ],
            ),
            channel("a", 1, vec![Element::Idle, Element::Block(full_block(&["y", "z"]))]),
            channel("c", 0, vec![Element::Watermark(3)]),
        ];
        let encoded = encode(&channels, |number| format!("f{number}")).unwrap();
        let mut decoded = Vec::new();
        for (in_flight, content) in encoded {
            assert!(in_flight.unsound().is_none());
            let text = serde_json::to_string(&in_flight).unwrap();
            let read: InFlight = serde_json::from_str(&text).unwrap();
            assert_eq!(read, in_flight);
            if let (Some(rows), Some(content)) = (&read.rows, &content) {
                super::super::layer::verify(&rows.file(), content, "f").unwrap();
            }
            decoded.extend(read.decode(content, "f").unwrap());
        }
        let order = ["a 0", "a 1", "b 0", "c 0"];
        for (name, got) in order.iter().zip(&decoded) {
            let is_it = |channel: &&ChannelSnapshot| format!("{} {}", channel.edge.from, channel.sender) == *name;
            let expect = channels.iter().find(is_it).unwrap();
            assert_eq!(
                (&got.edge, got.watermark, got.idle),
                (&expect.edge, expect.watermark, expect.idle)
            );
            assert_eq!(got.elements.len(), expect.elements.len());
            for (got, expect) in got.elements.iter().zip(&expect.elements) {
                match (got, expect) {
                    (Element::Block(got), Element::Block(expect)) => {
                        assert_eq!(got.rows, expect.rows);
                        assert_eq!(got.times, expect.times);
                        assert_eq!(got.keys, expect.keys);
                    }
                    (Element::Watermark(got), Element::Watermark(expect)) => assert_eq!(got, expect),
                    (Element::Idle, Element::Idle) => {}
                    (got, expect) => panic!("{got:?} for {expect:?}"),
                }
            }
        }
    }

    #[test]
    fn schemas_differ_in_names_types_and_nullability() {
        let schema =
            |name: &str, data_type: DataType, nullable| Schema::new(vec![Field::new(name, data_type, nullable)]);
        let all = [
            schema("a", DataType::Int64, false),
            schema("b", DataType::Int64, false),
            schema("a", DataType::Int32, false),
            schema("a", DataType::Int64, true),
        ];
        let mut prints: Vec<String> = all.iter().map(|schema| fingerprint(schema).unwrap()).collect();
        prints.sort();
        prints.dedup();
        assert_eq!(prints.len(), 4);
        // Part of the format.
        assert_eq!(fingerprint(&all[0]).unwrap(), "d9afefce2d1f83f71e850b7867fa0fad");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let channels = [channel("a", 0, vec![Element::Block(full_block(&["a"]))])];
        let (in_flight, content) = encode(&channels, |_| "f".to_owned()).unwrap().remove(0);
        let check = |change: fn(&mut InFlight)| {
            let mut changed = in_flight.clone();
            change(&mut changed);
            let error = changed.decode(content.clone(), "the file").unwrap_err();
            assert_eq!(error.code(), codes::DAMAGED);
            assert!(error.to_string().contains("the file"), "{error}");
        };
        check(|in_flight| in_flight.channels[0].elements[0] = InFlightElement::Rows(2));
        check(|in_flight| in_flight.channels[0].elements.push(InFlightElement::Rows(1)));
        check(|in_flight| in_flight.rows.as_mut().unwrap().schema = "0".repeat(32));
        check(|in_flight| in_flight.rows.as_mut().unwrap().keys = 9);
        assert_eq!(in_flight.decode(None, "f").unwrap_err().code(), codes::DAMAGED);
    }
}
