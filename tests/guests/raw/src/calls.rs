//! Calls, answered rightly or with what the host must not believe.
//!
//! A right answer has one row per row: its id, a text (null for odd ids) and a list of id mod 3 numbers.

use crate::operators::*;
use crate::types::Block;
use crate::{Raw, collections, diagnostics, emit, environment, kind};

/// Buffers of a block, each at a multiple of 16.
#[derive(Default)]
struct Writer {
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Writer {
    fn buffer(&mut self, bytes: &[u8]) {
        self.data.resize(self.data.len().next_multiple_of(16), 0);
        self.data.extend_from_slice(bytes);
        self.ends.push(self.data.len() as u32);
    }

    fn numbers(&mut self, values: &[i32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.buffer(&bytes);
    }
}

/// What can be wrong with the parts of a block before it is put together.
struct Parts {
    rows: u32,
    ids: Vec<i64>,
    text_validity: Vec<u8>,
    text_offsets: Vec<i32>,
    text: Vec<u8>,
    item_offsets: Vec<i32>,
    items: Vec<i32>,
}

fn parts(ids: &[i64]) -> Parts {
    let mut parts = Parts {
        rows: ids.len() as u32,
        ids: ids.to_vec(),
        text_validity: vec![0; ids.len().div_ceil(8)],
        text_offsets: vec![0],
        text: Vec::new(),
        item_offsets: vec![0],
        items: Vec::new(),
    };
    for (row, id) in ids.iter().enumerate() {
        if id % 2 == 0 {
            parts.text_validity[row / 8] |= 1 << (row % 8);
            parts.text.extend_from_slice(format!("row {id} é").as_bytes());
        }
        parts.text_offsets.push(parts.text.len() as i32);
        parts.items.extend((0..id.rem_euclid(3)).map(|item| item as i32));
        parts.item_offsets.push(parts.items.len() as i32);
    }
    parts
}

fn assemble(parts: &Parts) -> Block {
    let mut writer = Writer::default();
    let ids: Vec<u8> = parts.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    writer.buffer(&ids);
    writer.buffer(&parts.text_validity);
    writer.numbers(&parts.text_offsets);
    writer.buffer(&parts.text);
    writer.numbers(&parts.item_offsets);
    writer.numbers(&parts.items);
    Block {
        rows: parts.rows,
        data: writer.data,
        ends: writer.ends,
    }
}

/// The block for these ids, wrong in the way that the kind says.
fn block(ids: &[i64]) -> Block {
    let mut parts = parts(ids);
    let kind = kind();
    match kind.as_str() {
        "rows-more" => parts.rows += 1,
        "rows-fewer" => parts.rows -= 1,
        "rows-huge" => parts.rows = u32::MAX,
        "ids-short" => drop(parts.ids.pop()),
        "utf8" => parts.text[0] = 0xff,
        "utf8-split" => {
            // An offset in the middle of é: each value for itself is no text.
            let end = parts.text_offsets[1];
            parts.text_offsets[1] = end - 1;
            parts.text_offsets[2] = end - 1;
        }
        "offsets-descending" => parts.text_offsets[2] = -1,
        "offsets-descending-2" => parts.text_offsets.swap(3, 5),
        "offsets-first" => parts.text_offsets[0] = 1,
        "offsets-beyond" => *parts.text_offsets.last_mut().unwrap() += 100,
        "offsets-short" => drop(parts.text_offsets.pop()),
        "offsets-huge" => *parts.text_offsets.last_mut().unwrap() = i32::MAX,
        "items-beyond" => *parts.item_offsets.last_mut().unwrap() += 1,
        "items-descending" => parts.item_offsets[1] = 7,
        "validity-short" => parts.text_validity = vec![0],
        _ => {}
    }
    let mut block = assemble(&parts);
    match kind.as_str() {
        "ends-fewer" => drop(block.ends.pop()),
        "ends-more" => block.ends.push(block.data.len() as u32),
        "ends-none" => block.ends = Vec::new(),
        "ends-beyond" => *block.ends.last_mut().unwrap() += 1_000,
        "ends-huge" => block.ends[1] = u32::MAX,
        "ends-descending" => block.ends.swap(1, 2),
        "data-short" => block.data.truncate(8),
        "data-none" => block.data = Vec::new(),
        "data-more" => block.data.push(0),
        "fuzz-block" => damage(&mut block),
        _ => {}
    }
    block
}

/// A random number; the seed of the job makes it.
fn random(end: usize) -> usize {
    let bytes = environment::random(8);
    let number = u64::from_le_bytes(bytes.try_into().unwrap());
    (number % end.max(1) as u64) as usize
}

/// A number that is likely to be on the edge of something.
fn edgy() -> u32 {
    match random(6) {
        0 => 0,
        1 => u32::MAX,
        2 => i32::MAX as u32,
        3 => random(16) as u32,
        4 => random(300) as u32,
        _ => random(usize::MAX) as u32,
    }
}

/// Changes some of a block at random.
fn damage(block: &mut Block) {
    for _ in 0..1 + random(3) {
        match random(7) {
            0 => block.rows = edgy(),
            1 if !block.ends.is_empty() => {
                let end = random(block.ends.len());
                block.ends[end] = edgy();
            }
            2 => block.ends.insert(random(block.ends.len() + 1), edgy()),
            3 => block.ends.truncate(random(block.ends.len() + 1)),
            4 => block.data.truncate(random(block.data.len() + 1)),
            _ if block.data.len() > 4 => {
                let at = random(block.data.len() - 4) & !3;
                block.data[at..at + 4].copy_from_slice(&edgy().to_le_bytes());
            }
            _ => {}
        }
    }
}

/// Numbers at random, as many as there may be or a few more.
fn numbers<T>(most: usize, number: impl Fn() -> T) -> Vec<T> {
    (0..random(most + 2)).map(|_| number()).collect()
}

/// Effects at random, whether they make sense or not.
fn effects(entries: usize) -> CallResult {
    let few = 1 + random(3);
    let entry = || if random(4) == 0 { edgy() } else { random(entries) as u32 };
    CallResult {
        outputs: Vec::new(),
        emitted: numbers(3, || u64::from(edgy()) << random(32)),
        rejections: Rejections {
            entries: (0..few).map(|_| entry()).collect(),
            operators: (0..few).map(|_| if random(4) == 0 { edgy() } else { 2 }).collect(),
            causes: "é".repeat(random(4)),
            cause_ends: (0..few).map(|_| random(9) as u32).collect(),
        },
        timers: TimerOperations {
            entries: (0..few).map(|_| entry()).collect(),
            times: (0..few).map(|_| i64::from(edgy() as i32) << random(32)).collect(),
            actions: (0..few).map(|_| random(5) as u8).collect(),
        },
        touched: if random(2) == 0 {
            vec![random(256) as u8; entries * 2]
        } else {
            numbers(entries * 2, || random(256) as u8)
        },
        collections: numbers(3, || collection_writes(entries)),
        live_bytes: numbers(3, || i64::from(edgy()) << 31),
        more: random(3) == 0,
    }
}

/// Writes to large states at random; some of them are right.
fn collection_writes(entries: usize) -> CollectionWrites {
    let actions: Vec<u8> = match random(3) {
        0 => (0..random(4)).map(|_| random(5) as u8).collect(),
        _ => vec![2; random(4)],
    };
    let count = actions.len() - usize::from(random(9) == 0 && !actions.is_empty());
    let mut values = integers(&vec![7; actions.len()]);
    if random(6) == 0 {
        damage(&mut values);
    }
    CollectionWrites {
        state: if random(4) == 0 { edgy() } else { 2 },
        entries: (0..count)
            .map(|_| if random(9) == 0 { edgy() } else { random(entries) as u32 })
            .collect(),
        actions,
        keys: integers(&vec![1; random(2)]),
        values,
    }
}

/// A block of one column of integers.
fn integers(values: &[i64]) -> Block {
    let mut writer = Writer::default();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    writer.buffer(&bytes);
    Block {
        rows: values.len() as u32,
        data: writer.data,
        ends: writer.ends,
    }
}

/// A block of one row with that much text.
fn huge(bytes: usize) -> Block {
    let mut parts = parts(&[0]);
    parts.text = vec![b'x'; bytes];
    parts.text_offsets[1] = bytes as i32;
    assemble(&parts)
}

fn nothing() -> CallResult {
    CallResult {
        outputs: Vec::new(),
        emitted: Vec::new(),
        rejections: Rejections {
            entries: Vec::new(),
            operators: Vec::new(),
            causes: String::new(),
            cause_ends: Vec::new(),
        },
        timers: TimerOperations {
            entries: Vec::new(),
            times: Vec::new(),
            actions: Vec::new(),
        },
        touched: Vec::new(),
        collections: Vec::new(),
        live_bytes: Vec::new(),
        more: false,
    }
}

fn reject(entries: Vec<u32>, operators: Vec<u32>, causes: &str, cause_ends: Vec<u32>) -> Rejections {
    Rejections {
        entries,
        operators,
        causes: causes.to_owned(),
        cause_ends,
    }
}

/// The answer to a call with these ids, wrong in the way that the kind says.
fn answer(ids: &[i64]) -> Result<CallResult, CallError> {
    let mut result = nothing();
    let entries = ids.len() as u32;
    let port = if kind() == "port" { 3 } else { 0 };
    result.outputs.push(Output {
        port,
        block: block(ids),
    });
    result.emitted = vec![u64::from(entries)];
    match kind().as_str() {
        "emit-port" => emit::emit_block(9, &block(ids)),
        "emit-block" => emit::emit_block(0, &block(ids)),
        "emit-malformed" => {
            let mut wrong = block(ids);
            wrong.ends.pop();
            emit::emit_block(0, &wrong);
        }
        "call-error" => {
            return Err(CallError {
                operator: Some(2),
                entry: Some(3),
                message: "not today".to_owned(),
            });
        }
        "call-error-nowhere" => {
            return Err(CallError {
                operator: Some(99),
                entry: Some(1_000),
                message: "not today".to_owned(),
            });
        }
        "emitted-many" => result.emitted = vec![u64::MAX; 50],
        "emitted-huge" => result.emitted = vec![u64::MAX],
        "live-bytes" => result.live_bytes = vec![1; 7],
        "live-bytes-huge" => result.live_bytes = vec![i64::MAX, i64::MAX],
        "stateless-timer" => {
            result.timers = TimerOperations {
                entries: vec![0],
                times: vec![0],
                actions: vec![0],
            };
        }
        "more" | "more-forever" => result.more = true,
        "row-huge" => {
            result.outputs = vec![Output {
                port: 0,
                block: huge(80 << 20),
            }]
        }
        "row-too-huge" => {
            result.outputs = vec![Output {
                port: 0,
                block: huge(200 << 20),
            }]
        }
        "reject" => result.rejections = reject(vec![1], vec![2], "no good", vec![7]),
        "reject-entry" => result.rejections = reject(vec![entries], vec![2], "no good", vec![7]),
        "reject-operator" => result.rejections = reject(vec![1], vec![77], "no good", vec![7]),
        "reject-foreign" => result.rejections = reject(vec![1], vec![0], "no good", vec![7]),
        "reject-lengths" => result.rejections = reject(vec![1, 2], vec![2], "no good", vec![7]),
        "reject-ends" => result.rejections = reject(vec![1], vec![2], "no good", vec![70]),
        "reject-ends-descending" => {
            result.rejections = reject(vec![1, 2], vec![2, 2], "no good", vec![5, 2]);
        }
        "reject-split" => result.rejections = reject(vec![1, 2], vec![2, 2], "né", vec![2, 3]),
        _ => {}
    }
    Ok(result)
}

/// What a keyed call reports beside its rows.
fn keyed_answer(ids: &[i64]) -> Result<CallResult, CallError> {
    if kind() == "fuzz-effects" {
        return Ok(effects(ids.len()));
    }
    let mut result = answer(ids)?;
    let entries = ids.len();
    let timer = |entry, action| TimerOperations {
        entries: vec![entry],
        times: vec![1_000],
        actions: vec![action],
    };
    match kind().as_str() {
        "timer" => result.timers = timer(0, 0),
        "timer-entry" => result.timers = timer(entries as u32, 0),
        "timer-action" => result.timers = timer(0, 4),
        "timer-lengths" => result.timers.entries = vec![0],
        "timer-last" => {
            result.timers = timer(0, 0);
            result.timers.times = vec![i64::MAX];
        }
        "timer-first" => {
            result.timers = timer(0, 0);
            result.timers.times = vec![i64::MIN];
        }
        "touched" => result.touched = vec![2; entries * 2],
        "touched-short" => result.touched = vec![2; entries],
        "touched-long" => result.touched = vec![2; entries * 2 + 1],
        "touched-bits" => result.touched = vec![0xff; entries * 2],
        kind => result.collections.extend(wrong_writes(kind, entries as u32)),
    }
    Ok(result)
}

/// Writes to large states, right or wrong in one way.
fn wrong_writes(kind: &str, entries: u32) -> Option<CollectionWrites> {
    let mut writes = CollectionWrites {
        state: 1,
        entries: vec![0, 1, 0],
        actions: vec![3, 0, 1],
        keys: integers(&[5, 6]),
        values: integers(&[50]),
    };
    match kind {
        "write" => {}
        "write-state" => writes.state = 0,
        "write-state-huge" => writes.state = u32::MAX,
        "write-entry" => writes.entries[1] = entries,
        "write-lengths" => writes.entries.push(0),
        "write-action" => writes.actions[0] = 4,
        "write-append-map" => writes.actions[1] = 2,
        "write-put-list" => writes.state = 2,
        "write-keys-fewer" => writes.keys = integers(&[5]),
        "write-values-more" => writes.values = integers(&[50, 51]),
        "write-keys-malformed" => writes.keys.data.truncate(3),
        "write-values-malformed" => writes.values.ends.clear(),
        _ => return None,
    }
    Some(writes)
}

fn ids(block: &Block) -> Vec<i64> {
    let ids = block.data.chunks_exact(8).take(block.rows as usize);
    ids.map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Reads on the edge of what is allowed, of which all but one find nothing.
fn reads() {
    let got = collections::map_get(0, 1, &[0, 9], &integers(&[i64::MIN, i64::MAX]));
    assert_eq!((got.found, got.values.rows), (vec![0, 0], 0));
    let got = collections::map_get(0, 1, &[], &integers(&[]));
    assert_eq!((got.found, got.values.rows), (vec![], 0));
    let read = collections::map_scan(0, 1, 3, &integers(&[]), u32::MAX);
    assert_eq!((read.keys.rows, read.values.rows, read.more), (0, 0, false));
    let read = collections::map_scan(0, 1, 3, &integers(&[7]), 0);
    assert_eq!((read.keys.rows, read.more), (0, false));
    assert_eq!(collections::list_length(0, 2, &[0, 1, 0]), [0, 0, 0]);
    assert_eq!(collections::list_read(0, 2, 0, u64::MAX, u32::MAX).rows, 0);
}

/// Imports with arguments out of range.
fn misuse() {
    match kind().as_str() {
        "read" => reads(),
        "map-get" => drop(collections::map_get(0, 0, &[], &integers(&[]))),
        "map-get-chain" => drop(collections::map_get(7, 1, &[0], &integers(&[1]))),
        "map-get-list" => drop(collections::map_get(0, 2, &[0], &integers(&[1]))),
        "map-get-entry" => drop(collections::map_get(0, 1, &[0, 10], &integers(&[1, 2]))),
        "map-get-fewer" => drop(collections::map_get(0, 1, &[0, 1], &integers(&[1]))),
        "map-get-malformed" => drop(collections::map_get(0, 1, &[0], &block(&[1]))),
        "map-scan" => drop(collections::map_scan(0, 0, 0, &integers(&[]), 1)),
        "map-scan-entry" => drop(collections::map_scan(0, 1, u32::MAX, &integers(&[]), 1)),
        "map-scan-keys" => drop(collections::map_scan(0, 1, 0, &integers(&[1, 2]), 1)),
        "list-length" => drop(collections::list_length(0, 1, &[0])),
        "list-read" => drop(collections::list_read(0, 0, 0, 0, 1)),
        "list-read-entry" => drop(collections::list_read(0, 2, 10, 0, 1)),
        "random-huge" => drop(environment::random(u32::MAX)),
        "metric-unknown" => {
            diagnostics::add_counters(&[7, 8], &[1]);
            diagnostics::set_gauges(&[9], &[]);
            diagnostics::record_values(u32::MAX, &[1.0]);
        }
        "metric-operator" => {
            let metric = diagnostics::register_metric(4_000, "strange", diagnostics::MetricKind::Counter);
            diagnostics::add_counters(&[metric], &[1]);
        }
        "panicked-nowhere" => {
            diagnostics::panicked(Some(99), Some(1_000_000), "lost");
            std::arch::wasm32::unreachable();
        }
        "log-long" => diagnostics::log(diagnostics::Level::Info, &"x".repeat(50 << 20)),
        "trap" => std::arch::wasm32::unreachable(),
        _ => {}
    }
}

impl Guest for Raw {
    fn open(_chain: u32, _config: OpenConfig) -> Result<(), CallError> {
        if kind() == "open-error" {
            return Err(CallError {
                operator: Some(2),
                entry: None,
                message: "closed on Mondays".to_owned(),
            });
        }
        Ok(())
    }

    fn process(_chain: u32, _input: u32, _at: Moment, rows: Block) -> Result<CallResult, CallError> {
        misuse();
        answer(&ids(&rows))
    }

    fn process_keyed(
        _chain: u32,
        _input: u32,
        _at: Moment,
        _slots: Vec<u32>,
        rows: Block,
    ) -> Result<CallResult, CallError> {
        misuse();
        keyed_answer(&ids(&rows))
    }

    fn timers(
        _chain: u32,
        _at: Moment,
        _kind: TimerKind,
        _slots: Vec<u32>,
        _times: Vec<i64>,
        keys: Block,
    ) -> Result<CallResult, CallError> {
        answer(&ids(&keys))
    }

    fn accumulate(
        _chain: u32,
        _input: u32,
        _at: Moment,
        _slots: Vec<u32>,
        rows: Block,
        _emit_after: Vec<u32>,
        _purge_after: Vec<u32>,
    ) -> Result<CallResult, CallError> {
        let mut result = nothing();
        if kind() == "accumulate-timer" {
            result.timers = TimerOperations {
                entries: vec![rows.rows],
                times: vec![0],
                actions: vec![0],
            };
        }
        Ok(result)
    }

    fn merge(_chain: u32, _targets: Vec<u32>, _sources: Vec<u32>) -> Result<(), CallError> {
        Ok(())
    }

    fn emit(
        _chain: u32,
        _at: Moment,
        _slots: Vec<u32>,
        _starts: Vec<i64>,
        _ends: Vec<i64>,
        keys: Block,
        _then_drop: bool,
    ) -> Result<CallResult, CallError> {
        answer(&ids(&keys))
    }

    fn resume(_chain: u32, _at: Moment) -> Result<CallResult, CallError> {
        let mut result = nothing();
        result.more = kind() == "more-forever";
        Ok(result)
    }

    fn conditions(_chain: u32, _at: Moment, _rows: Block) -> Result<RowConditions, CallError> {
        Ok(RowConditions {
            holds: Vec::new(),
            order: Vec::new(),
            order_ends: Vec::new(),
        })
    }

    fn iterative_conditions(
        _chain: u32,
        _at: Moment,
        _rows: Block,
        _candidates: Candidates,
    ) -> Result<Vec<bool>, CallError> {
        Ok(Vec::new())
    }

    fn select(_chain: u32, _at: Moment, _rows: Block, _matches: Matches) -> Result<CallResult, CallError> {
        Ok(nothing())
    }

    fn prefetch(_chain: u32, _input: u32, _slots: Vec<u32>, _rows: Block) -> Vec<PrefetchRequest> {
        Vec::new()
    }

    fn export_state(_chain: u32, _state: u32, _slots: Vec<u32>) -> Result<Block, CallError> {
        Ok(block(&[]))
    }

    fn import_state(_chain: u32, _state: u32, _slots: Vec<u32>, _values: Block) -> Result<(), CallError> {
        Ok(())
    }

    fn migrate_state(_chain: u32, _state: u32, _migration: u32, _old: Block) -> Result<Block, CallError> {
        Ok(block(&[]))
    }

    fn drop_state(_chain: u32, _slots: Vec<u32>) -> Result<(), CallError> {
        Ok(())
    }

    fn close(_chain: u32, _at: Moment) -> Result<CallResult, CallError> {
        Ok(nothing())
    }
}
