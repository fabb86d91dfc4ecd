//! Measures connectors alone on one core: rows made by the generator and dropped, and files read.
//!
//! `cargo run --release -p millrace-connectors --example connector_throughput`

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use millrace_connectors::connector;
use millrace_core::Result;
use millrace_core::connector::{Options, Poll, Sink, SinkContext, SubtaskContext, Waker};

const BLOCK_ROWS: usize = 4096;

fn context() -> SubtaskContext {
    SubtaskContext {
        subtask: 0,
        parallelism: 1,
        waker: Waker(Arc::new(|| ())),
        checkpoints: false,
    }
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|(n, t)| Field::new(*n, t.clone(), false))
            .collect::<Vec<_>>(),
    ))
}

fn options(pairs: &[(&str, &str)]) -> Result<Options> {
    Options::new(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

/// Time that this thread was on a CPU, where the system tells: other work on the machine does not count.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

/// Runs a source into a sink, if there is one, and prints rows per second.
fn run(what: &str, kind: &str, pairs: &[(&str, &str)], schema: &SchemaRef, sink: Option<Arc<dyn Sink>>) -> Result<()> {
    let source = connector(kind)?
        .source(options(pairs)?, schema.clone())?
        .expect("the kind has a source");
    let mut writer = sink.map(|sink| sink.open(&context())).transpose()?;
    let start = Instant::now();
    let cpu_start = cpu_time();
    let mut rows = 0;
    for split in source.splits(1)? {
        let mut reader = source.open(&split, &context())?;
        while let Poll::Rows(got) = reader.poll(BLOCK_ROWS, start.elapsed())? {
            rows += got.rows.num_rows();
            if let Some(writer) = &mut writer {
                writer.write(&got.rows, start.elapsed())?;
            }
        }
    }
    if let Some(writer) = &mut writer {
        let committables = writer.pre_commit()?;
        writer.commit(&committables)?;
    }
    let per_second = |took: Duration| rows as f64 / took.max(Duration::from_nanos(1)).as_secs_f64() / 1e6;
    let cpu = cpu_time()
        .zip(cpu_start)
        .map_or(0.0, |(end, start)| per_second(end - start));
    println!(
        "{what}: {:.1} M rows/s, {cpu:.1} M rows per CPU second",
        per_second(start.elapsed())
    );
    Ok(())
}

fn main() -> Result<()> {
    let integers = schema(&[("a", DataType::Int64), ("b", DataType::Int64), ("c", DataType::Int64)]);
    let two = schema(&[("a", DataType::Int64), ("b", DataType::Int64)]);
    let rows = ("rows", "200000000");
    for (a, b) in [
        ("mix % 100000", "index"),
        ("index % 100000", "index / 1000"),
        ("index % 10", "index / 10"),
    ] {
        let pairs = [rows, ("column.a", a), ("column.b", b)];
        run(&format!("generator {a}, {b}"), "generator", &pairs, &two, None)?;
    }
    let pairs = [
        rows,
        ("column.a", "mix % 100000"),
        ("column.b", "index % 1000"),
        ("column.c", "index / 1000"),
    ];
    run(
        "generator mix % 100000, index % 1000, index / 1000",
        "generator",
        &pairs,
        &integers,
        None,
    )?;
    for sink_options in [&[("sum", "c")][..], &[("checksum", "true")]] {
        let sink = connector("discard")?.sink(options(sink_options)?, integers.clone(), &identity())?;
        run(
            &format!("the same into discard {sink_options:?}"),
            "generator",
            &pairs,
            &integers,
            sink,
        )?;
    }
    let folder = std::env::temp_dir().join("millrace-throughput");
    let path = folder.to_str().expect("a temporary folder has a plain name");
    let mixed = schema(&[
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("price", DataType::Float64),
    ]);
    let name = ("column.name", "customer-{mix % 100000}");
    let pairs = [
        ("rows", "4000000"),
        ("column.id", "index"),
        name,
        ("column.price", "mix % 10000 / 100"),
    ];
    for format in ["csv", "ndjson", "parquet"] {
        let to = [("path", path), ("format", format), ("overwrite", "true")];
        let sink = connector("files")?
            .sink(options(&to)?, mixed.clone(), &identity())?
            .expect("files has a sink");
        sink.check()?;
        run(
            &format!("generator to {format}"),
            "generator",
            &pairs,
            &mixed,
            Some(sink),
        )?;
        run(
            &format!("{format} alone"),
            "files",
            &[("path", path), ("format", format)],
            &mixed,
            None,
        )?;
        if format == "csv" {
            let line = schema(&[("line", DataType::Utf8)]);
            run(
                "the same as text",
                "files",
                &[("path", path), ("format", "text")],
                &line,
                None,
            )?;
        }
        let _ = std::fs::remove_dir_all(&folder);
    }
    Ok(())
}

/// One sink of one job.
fn identity() -> SinkContext {
    SinkContext {
        job: "throughput".into(),
        operator: "sink".into(),
    }
}
