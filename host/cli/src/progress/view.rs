//! The texts of a running job: the view for a terminal, the plain line, the summary. Pure: snapshots in, text out.

use crate::format;
use crate::output::{Align, Table};
use crate::progress::{CheckpointRow, OperatorRow, Snapshot};

/// Characters of an operator's bar.
const BAR_WIDTH: usize = 20;

/// Longest name of an operator that is shown whole.
const NAME_WIDTH_MAX: usize = 28;

/// The view: two lines on the job, a line per operator with a bar (`█` busy, `▒` backpressured). No line is wider
/// than the terminal, and there are fewer lines than it has: operators that do not fit are counted.
pub fn screen(job: &str, previous: &Snapshot, now: &Snapshot, width: usize, height: usize) -> Vec<String> {
    let rates = Rates::between(previous, now);
    let mut lines = vec![
        format!(
            "{job}  {}  watermark {}",
            format::elapsed(now.elapsed),
            format::watermark(now.watermark)
        ),
        format!(
            "  in {} ({}/s)  out {} ({}/s)",
            format::count(now.rows_in),
            format::short(rates.rows_in),
            format::count(now.rows_out),
            format::short(rates.rows_out),
        ),
    ];
    lines.extend(
        now.checkpoint
            .as_ref()
            .map(|checkpoint| format!("  {}", describe(checkpoint))),
    );
    let names = now
        .operators
        .iter()
        .map(|operator| operator.name.chars().count())
        .max()
        .unwrap_or(0);
    let names = names.min(NAME_WIDTH_MAX);
    let room = height.saturating_sub(2 + lines.len()).max(1);
    for operator in now.operators.iter().take(room) {
        let before = previous.operators.iter().find(|earlier| earlier.name == operator.name);
        let rows = operator.rows_in - before.map_or(0, |before| before.rows_in.min(operator.rows_in));
        lines.push(format!(
            "  {}  {}  {:>3.0} % busy  {:>7}/s",
            fit(&operator.name, names),
            bar(operator),
            operator.busy * 100.0,
            format::short(rate(rows, rates.seconds)),
        ));
    }
    if now.operators.len() > room {
        lines.push(format!("  and {} more", now.operators.len() - room));
    }
    for line in &mut lines {
        *line = clip(line, width);
    }
    lines
}

/// How the last checkpoint went.
fn describe(checkpoint: &CheckpointRow) -> String {
    let CheckpointRow {
        id,
        duration,
        alignment,
        in_flight_bytes,
    } = checkpoint;
    let mut text = format!("checkpoint {id} in {} ms", duration.as_millis());
    if alignment.as_millis() > 0 {
        text += &format!(", waited {} ms for barriers", alignment.as_millis());
    }
    if *in_flight_bytes > 0 {
        text += &format!(", {} in flight", format::bytes(*in_flight_bytes));
    }
    text
}

/// A line for a log.
pub fn line(previous: &Snapshot, now: &Snapshot) -> String {
    let rates = Rates::between(previous, now);
    let mut text = format!(
        "{:>8}  in {} ({}/s)  out {} ({}/s)  watermark {}",
        format::elapsed(now.elapsed),
        format::count(now.rows_in),
        format::short(rates.rows_in),
        format::count(now.rows_out),
        format::short(rates.rows_out),
        format::watermark(now.watermark),
    );
    let busiest = now.operators.iter().max_by(|a, b| a.busy.total_cmp(&b.busy));
    if let Some(operator) = busiest.filter(|operator| operator.busy > 0.0) {
        text += &format!("  busiest {} {:.0} %", operator.name, operator.busy * 100.0);
    }
    if let Some(checkpoint) = &now.checkpoint {
        text += &format!("  {}", describe(checkpoint));
    }
    text
}

/// What a job did, when it has ended.
pub fn summary(job: &str, end: &Snapshot) -> String {
    let seconds = end.elapsed.as_secs_f64();
    let mut text = format!(
        "{job}: {} rows in, {} rows out in {} ({} rows/s)\n",
        format::count(end.rows_in),
        format::count(end.rows_out),
        format::elapsed(end.elapsed),
        format::short(rate(end.rows_in, seconds)),
    );
    if end.operators.is_empty() {
        return text;
    }
    let mut table = Table::new(&[
        ("operator", Align::Left),
        ("subtasks", Align::Right),
        ("rows in", Align::Right),
        ("rows out", Align::Right),
        ("busy", Align::Right),
        ("backpressured", Align::Right),
        ("idle", Align::Right),
        ("late", Align::Right),
        ("rejected", Align::Right),
    ]);
    for operator in &end.operators {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        table.row(vec![
            operator.name.clone(),
            operator.subtasks.to_string(),
            format::count(operator.rows_in),
            format::count(operator.rows_out),
            percent(operator.busy),
            percent(operator.backpressured),
            percent(operator.idle),
            format::count(operator.late),
            format::count(operator.rejected),
        ]);
    }
    text += &table.render();
    text
}

/// Rows per second between two snapshots.
struct Rates {
    seconds: f64,
    rows_in: f64,
    rows_out: f64,
}

impl Rates {
    fn between(previous: &Snapshot, now: &Snapshot) -> Self {
        let seconds = now.elapsed.saturating_sub(previous.elapsed).as_secs_f64();
        Rates {
            seconds,
            rows_in: rate(now.rows_in.saturating_sub(previous.rows_in), seconds),
            rows_out: rate(now.rows_out.saturating_sub(previous.rows_out), seconds),
        }
    }
}

fn rate(rows: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { rows as f64 / seconds } else { 0.0 }
}

fn bar(operator: &OperatorRow) -> String {
    let cells = |share: f64| (share.clamp(0.0, 1.0) * BAR_WIDTH as f64).round() as usize;
    let busy = cells(operator.busy);
    let waiting = cells(operator.backpressured).min(BAR_WIDTH - busy);
    format!(
        "{}{}{}",
        "█".repeat(busy),
        "▒".repeat(waiting),
        "░".repeat(BAR_WIDTH - busy - waiting)
    )
}

/// The text at exactly this width.
fn fit(text: &str, width: usize) -> String {
    format!("{:width$}", clip(text, width))
}

/// The text at this width at most, ending in `…` where something is left out.
fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn snapshot(seconds: u64, rows: u64) -> Snapshot {
        let operator = |name: &str, busy: f64, backpressured: f64| OperatorRow {
            name: name.to_owned(),
            subtasks: 2,
            busy,
            backpressured,
            idle: 1.0 - busy - backpressured,
            rows_in: rows,
            rows_out: rows / 2,
            ..OperatorRow::default()
        };
        Snapshot {
            elapsed: Duration::from_secs(seconds),
            rows_in: rows,
            rows_out: rows / 2,
            watermark: Some(978_307_199_999),
            operators: vec![operator("flights", 0.25, 0.5), operator("hourly", 1.0, 0.0)],
            checkpoint: None,
        }
    }

    #[test]
    fn the_last_checkpoint_has_a_line() {
        let mut now = snapshot(3, 1_000);
        let mut check = |alignment, in_flight_bytes, expect: &str| {
            now.checkpoint = Some(CheckpointRow {
                id: 7,
                duration: Duration::from_millis(43),
                alignment: Duration::from_millis(alignment),
                in_flight_bytes,
            });
            assert_eq!(
                screen("demo", &Snapshot::default(), &now, 120, 30)[2],
                format!("  {expect}")
            );
            assert!(line(&Snapshot::default(), &now).ends_with(&format!("  {expect}")));
        };
        check(0, 0, "checkpoint 7 in 43 ms");
        check(12, 0, "checkpoint 7 in 43 ms, waited 12 ms for barriers");
        check(0, 2_048, "checkpoint 7 in 43 ms, 2.00 KiB in flight");
    }

    #[test]
    fn the_view_shows_rates_watermark_and_bars() {
        let lines = screen("demo", &snapshot(1, 1_000_000), &snapshot(3, 4_000_000), 120, 30);
        assert_eq!(
            lines,
            [
                "demo  3.00 s  watermark 2000-12-31 23:59:59",
                "  in 4,000,000 (1.50 M/s)  out 2,000,000 (750 k/s)",
                "  flights  █████▒▒▒▒▒▒▒▒▒▒░░░░░   25 % busy   1.50 M/s",
                "  hourly   ████████████████████  100 % busy   1.50 M/s",
            ]
        );
    }

    #[test]
    fn the_view_fits_the_terminal() {
        let mut now = snapshot(3, 4_000_000);
        now.operators = (0..50).map(|_| now.operators[0].clone()).collect();
        let lines = screen("demo", &Snapshot::default(), &now, 40, 10);
        assert!(lines.len() < 10);
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:?}");
        assert_eq!(lines.last().map(String::as_str), Some("  and 44 more"));
    }

    #[test]
    fn the_line_names_the_busiest_operator() {
        assert_eq!(
            line(&Snapshot::default(), &snapshot(2, 1000)),
            "  2.00 s  in 1,000 (500/s)  out 500 (250/s)  watermark 2000-12-31 23:59:59  busiest hourly 100 %"
        );
    }

    #[test]
    fn the_summary_is_a_table_of_operators() {
        let text = summary("demo", &snapshot(2, 1000));
        let expect = "\
demo: 1,000 rows in, 500 rows out in 2.00 s (500 rows/s)
operator  subtasks  rows in  rows out   busy  backpressured  idle  late  rejected
flights          2    1,000       500   25 %           50 %  25 %     0         0
hourly           2    1,000       500  100 %            0 %   0 %     0         0
";
        assert_eq!(text, expect);
    }

    #[test]
    fn a_first_snapshot_at_once_has_no_rate() {
        assert!(line(&Snapshot::default(), &Snapshot::default()).contains("(0/s)"));
    }
}
