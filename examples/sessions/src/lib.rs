//! Makes visits of the lines of a web server's log.

mod log_line;

use log_line::LogLine;
use millrace::prelude::*;

/// A line of the log, read in place.
#[derive(Record)]
struct Line<'a> {
    line: &'a str,
}

/// A visit: pages with no pause longer than the gap between them. A single page is a visit, too.
#[derive(Record, Clone)]
struct Visit {
    visitor: String,
    start: Timestamp,
    end: Timestamp,
    pages: i64,
    bytes: i64,
    entry: String,
    exit: String,
}

#[derive(Parameters)]
struct Params {
    /// Log to read, in the Common Log Format
    input: String,
    /// Folder to write to
    output: String,
    /// A pause longer than this ends a visit
    #[parameter(default = "30m")]
    gap: Duration,
    /// How far lines may be out of order
    #[parameter(default = "10s")]
    bound: Duration,
}

#[millrace::pipeline]
fn sessions(flow: &Flow, params: Params) -> Result<()> {
    let lines: Stream<Rows<Line>> = flow.source("lines", Files::text(&params.input));
    lines
        .try_flat_map(parse)
        .name("parse")
        .on_reject(Reject::DeadLetter(format!("{}/rejected.ndjson", params.output)))
        .watermarks(Watermarks::bounded(Visit::FIELDS.start, params.bound))
        .key_by(Visit::FIELDS.visitor)
        .window(Session::gap(params.gap))
        .reduce(join, |_visitor, _window, visit| visit.clone())
        .name("visits")
        .uid("visits")
        .sink("out", Files::to_ndjson(format!("{}/visits", params.output)));
    Ok(())
}

/// Puts out the views of pages: what was found, without styles, scripts and pictures.
fn parse(line: Line<'_>, out: &mut Out<'_, Visit>) -> Result<(), String> {
    const ASSETS: [&str; 6] = [".css", ".js", ".svg", ".ico", ".png", ".jpg"];
    let line = LogLine::parse(line.line)?;
    if line.status < 400 && !ASSETS.iter().any(|asset| line.path.ends_with(asset)) {
        out.push(Visit {
            visitor: line.host.to_owned(),
            start: line.time,
            end: line.time,
            pages: 1,
            bytes: line.bytes,
            entry: line.path.to_owned(),
            exit: line.path.to_owned(),
        });
    }
    Ok(())
}

/// Makes one visit of two. Rows come in any order: the earlier page is the entry, the later one the exit, and of pages at
/// the same time the path decides.
fn join(visit: &mut Visit, other: Visit) {
    visit.pages += other.pages;
    visit.bytes += other.bytes;
    if (other.start, &other.entry) < (visit.start, &visit.entry) {
        (visit.start, visit.entry) = (other.start, other.entry);
    }
    if (other.end, &other.exit) > (visit.end, &visit.exit) {
        (visit.end, visit.exit) = (other.end, other.exit);
    }
}
