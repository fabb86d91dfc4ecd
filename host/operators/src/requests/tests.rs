//! Goal: rows go on once, with their own answers, in the order that was asked for, and never across a mark; a snapshot in the
//! middle and other subtasks that go on from it lose none.
//! Method: random blocks, marks and answers, in random order; what comes out is compared with what the input says.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt16Type};
use arrow_array::{Array, ArrayRef, Int64Array, ListArray, RecordBatch, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use millrace_core::block::Block;
use millrace_core::checkpoint::TableDelta;
use millrace_core::graph::{RequestOrder, RequestsDecl, answer_fields, header_fields, request_fields};
use millrace_core::key::{KeyGroups, hash_integer};
use millrace_core::requests::{Answer, Failure, FailureKind, Request, Response, Ticket};

use super::{Mark, Passed, RequestsOperator};
use crate::testing::Random;

const MAX_PARALLELISM: u32 = 16;

fn row_fields() -> Fields {
    Fields::from(vec![Field::new("number", DataType::Int64, false)])
}

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("0", DataType::Struct(row_fields()), false),
        Field::new("1", DataType::Struct(request_fields()), true),
    ]))
}

fn declared(order: RequestOrder, capacity: u32) -> RequestsDecl {
    RequestsDecl {
        order,
        capacity,
        timeout_ms: 1_000,
        retry: None,
        response_bytes_max: 1 << 20,
        origins: Vec::new(),
        schema: Arc::new(Schema::new(vec![
            Field::new("0", DataType::Struct(row_fields()), false),
            Field::new("1", DataType::Struct(answer_fields()), true),
        ])),
        hints: Vec::new(),
    }
}

fn rows(numbers: &[i64]) -> ArrayRef {
    let numbers: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
    Arc::new(StructArray::new(row_fields(), vec![numbers], None))
}

/// Every seventh row asks for nothing.
fn has_request(number: i64) -> bool {
    number % 7 != 0
}

fn block(numbers: &[i64]) -> Block {
    let (mut methods, mut urls, mut bodies) = (StringBuilder::new(), StringBuilder::new(), BinaryBuilder::new());
    for number in numbers {
        methods.append_value("GET");
        urls.append_value(format!("http://a/{number}"));
        bodies.append_value(b"");
    }
    let pairs: Vec<ArrayRef> = vec![
        Arc::new(StringBuilder::new().finish()),
        Arc::new(StringBuilder::new().finish()),
    ];
    let pairs = StructArray::new(header_fields(), pairs, None);
    let item = Field::new_list_field(DataType::Struct(header_fields()), false);
    let ends = OffsetBuffer::from_lengths(numbers.iter().map(|_| 0));
    let headers = ListArray::new(Arc::new(item), ends, Arc::new(pairs), None);
    let members: Vec<ArrayRef> = vec![
        Arc::new(methods.finish()),
        Arc::new(urls.finish()),
        Arc::new(headers),
        Arc::new(bodies.finish()),
    ];
    let asked = NullBuffer::from_iter(numbers.iter().map(|number| has_request(*number)));
    let requests: ArrayRef = Arc::new(StructArray::new(request_fields(), members, Some(asked)));
    Block {
        rows: RecordBatch::try_new(input(), vec![rows(numbers), requests]).expect("columns as declared"),
        times: Some(numbers.iter().map(|number| number * 10).collect()),
        keys: None,
    }
}

fn answer(request: &Request) -> Answer {
    let number: i64 = request.url["http://a/".len()..].parse().expect("a number");
    if number % 5 == 0 {
        return Err(Failure {
            kind: FailureKind::Timeout,
            message: "no time".to_owned(),
        });
    }
    Ok(Response {
        status: 200,
        headers: vec![("a".to_owned(), number.to_string())],
        body: number.to_string().into_bytes(),
    })
}

/// What is in a block that comes out: numbers, each with what belongs to it.
fn check(block: &Block) -> Vec<i64> {
    let numbers = block
        .rows
        .column(0)
        .as_struct()
        .column(0)
        .as_primitive::<Int64Type>()
        .clone();
    let answers = block.rows.column(1).as_struct();
    let times = block.times.as_ref().expect("rows have times");
    for (row, &number) in numbers.values().iter().enumerate() {
        assert_eq!(times[row], number * 10);
        assert_eq!(answers.is_valid(row), has_request(number));
        let error = answers.column(3).as_string::<i32>();
        let status = answers.column(0).as_primitive::<UInt16Type>().value(row);
        if has_request(number) && number % 5 == 0 {
            assert_eq!((error.value(row), status), ("timeout", 0));
        } else if has_request(number) {
            let body = answers.column(2).as_binary::<i32>().value(row);
            assert_eq!(
                (error.is_null(row), status, body),
                (true, 200, number.to_string().as_bytes())
            );
        }
    }
    numbers.values().to_vec()
}

/// One subtask with whoever makes its requests.
struct Bench {
    operator: RequestsOperator,
    asked: Vec<(Ticket, Request)>,
    /// Numbers and watermarks as they came out; a watermark is negative.
    out: Vec<i64>,
}

impl Bench {
    fn new(order: RequestOrder, capacity: u32, place: (u32, u32)) -> Self {
        Bench {
            operator: RequestsOperator::new(&declared(order, capacity), input(), place, MAX_PARALLELISM),
            asked: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Makes requests, answers some, and takes what comes out.
    fn step(&mut self, random: &mut Random, capacity: u32) {
        while let Some(next) = self.operator.next_request().expect("rows are there") {
            self.asked.push(next);
        }
        assert!(
            self.asked.len() <= capacity as usize,
            "no more requests than there is capacity"
        );
        for _ in 0..random.below(4).min(self.asked.len() as u64) {
            let drawn = random.below(self.asked.len() as u64) as usize;
            let (ticket, request) = self.asked.swap_remove(drawn);
            let answer = answer(&request);
            self.operator.handle_answer(ticket, answer).expect("it was asked");
        }
        while let Some(passed) = self.operator.poll_output().expect("answers are sound") {
            match passed {
                Passed::Rows(block) => self.out.extend(check(&block)),
                Passed::Mark(Mark::Watermark(watermark)) => self.out.push(-watermark),
                Passed::Mark(Mark::Idle) => {}
            }
        }
    }

    fn drain(&mut self, random: &mut Random, capacity: u32) {
        while !self.operator.is_empty() {
            self.step(random, capacity);
        }
    }
}

/// Gives random rows and marks; what went in, as it may come out.
fn feed(bench: &mut Bench, random: &mut Random, capacity: u32, next: &mut i64, steps: u64) -> Vec<i64> {
    let mut given = Vec::new();
    for _ in 0..steps {
        if random.below(5) == 0 {
            bench.operator.handle_mark(Mark::Watermark(*next));
            given.push(-*next);
            *next += 1;
        } else {
            let count = random.below(bench.operator.room() as u64 + 1) as i64;
            let numbers: Vec<i64> = (*next..*next + count).collect();
            bench.operator.handle_block(&block(&numbers)).expect("there is room");
            given.extend(numbers);
            *next += count;
        }
        bench.step(random, capacity);
    }
    given
}

/// Each piece between watermarks has the same rows.
fn assert_same_between_marks(out: &[i64], given: &[i64], seed: u64) {
    let pieces = |all: &[i64]| {
        let mut pieces: Vec<Vec<i64>> = all.split_inclusive(|entry| *entry < 0).map(<[i64]>::to_vec).collect();
        pieces.iter_mut().for_each(|piece| piece.sort_unstable());
        pieces
    };
    assert_eq!(pieces(out), pieces(given), "seed {seed}");
}

/// Of marks that directly follow each other the last alone.
fn last_marks(all: &[i64]) -> Vec<i64> {
    let is_followed = |at: usize| all[at] < 0 && all.get(at + 1).is_some_and(|next| *next < 0);
    (0..all.len())
        .filter(|at| !is_followed(*at))
        .map(|at| all[at])
        .collect()
}

#[test]
fn rows_go_on_as_they_should() {
    for seed in 0..200 {
        let random = &mut Random::new(seed);
        let capacity = 1 + random.below(20) as u32;
        for order in [RequestOrder::Ordered, RequestOrder::Unordered] {
            let mut bench = Bench::new(order, capacity, (0, 1));
            let given = feed(&mut bench, random, capacity, &mut 1, 60);
            bench.drain(random, capacity);
            let (out, given) = (last_marks(&bench.out), last_marks(&given));
            match order {
                RequestOrder::Ordered => assert_eq!(out, given, "seed {seed}"),
                RequestOrder::Unordered => assert_same_between_marks(&out, &given, seed),
            }
        }
    }
}

#[test]
fn others_go_on_from_a_snapshot() {
    for seed in 0..100 {
        let random = &mut Random::new(seed);
        let (capacity, before, after) = (
            1 + random.below(20) as u32,
            1 + seed as u32 % 3,
            1 + seed as u32 / 3 % 4,
        );
        let mut next = 1;
        let (mut rows, mut out, mut given) = (Vec::new(), Vec::new(), Vec::new());
        for subtask in 0..before {
            let mut bench = Bench::new(RequestOrder::Ordered, capacity, (subtask, before));
            given.extend(feed(&mut bench, random, capacity, &mut next, 20));
            let TableDelta {
                full,
                batches,
                live_rows,
                ..
            } = bench.operator.snapshot().expect("a snapshot");
            assert!(full && live_rows == batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>());
            let groups = KeyGroups::new(before, MAX_PARALLELISM).groups_of(subtask);
            rows.extend(
                batches
                    .iter()
                    .inspect(|batch| assert!(groups.end > group_of(batch, 0)))
                    .cloned(),
            );
            out.extend(bench.out);
        }
        for subtask in 0..after {
            let groups = KeyGroups::new(after, MAX_PARALLELISM).groups_of(subtask);
            let own: Vec<RecordBatch> = rows
                .iter()
                .flat_map(|batch| {
                    let rows = (0..batch.num_rows()).filter(|row| groups.contains(&group_of(batch, *row)));
                    rows.map(|row| batch.slice(row, 1)).collect::<Vec<_>>()
                })
                .collect();
            let mut bench = Bench::new(RequestOrder::Ordered, capacity, (subtask, after));
            bench.operator.restore(&own).expect("the schema is the same");
            bench.drain(random, capacity);
            if before == 1 && after == 1 {
                assert!(bench.out.is_sorted(), "their order stays");
            }
            out.extend(bench.out);
        }
        out.retain(|entry| *entry >= 0);
        given.retain(|entry| *entry >= 0);
        out.sort_unstable();
        assert_eq!(out, given, "seed {seed}");
    }
}

/// The group that a row says, which is that of its key.
fn group_of(batch: &RecordBatch, row: usize) -> u32 {
    let key = batch
        .column(2)
        .as_struct()
        .column(0)
        .as_primitive::<Int64Type>()
        .value(row);
    let group = millrace_core::key::KeyGroup::of_hash(hash_integer(key), MAX_PARALLELISM);
    assert_eq!(
        batch
            .column(0)
            .as_primitive::<arrow_array::types::UInt32Type>()
            .value(row),
        group.0
    );
    group.0
}

#[test]
fn what_is_asked_of_the_host_is_checked() {
    let check = |change: fn(&mut RequestsDecl), expect: bool| {
        let mut declared = declared(RequestOrder::Ordered, 1);
        declared.origins = vec![millrace_core::graph::Origin::parse("http://a").expect("an origin")];
        change(&mut declared);
        assert_eq!(declared.check(&input()).is_ok(), expect);
    };
    check(|_| {}, true);
    check(|declared| declared.capacity = 0, false);
    check(|declared| declared.origins.clear(), false);
    check(|declared| declared.schema = input(), false);
    check(|declared| declared.schema = Arc::new(Schema::empty()), false);
}
