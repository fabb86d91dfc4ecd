//! The queries of the Nexmark benchmark: the pipeline of `examples/nexmark`, with all tables made whole.
//!
//! All events count as rows, whatever the query reads. The totals are those of `examples/nexmark/verify.py --totals`, computed
//! by DuckDB from the same tables.

use anyhow::{Context, Result, bail};

use crate::pipeline::execute_pipeline;
use crate::{Arguments, Totals};

/// Events for which totals are known, at this rate.
pub(crate) const EVENTS: u64 = 10_000_000;
pub(crate) const EVENT_RATE: u64 = 10_000;

/// Of so many events so many are bids.
const EPOCH: u64 = 50;
const BIDS: u64 = 46;

/// (query, result rows, sum of a column of the results). Decimals are summed in their last digit.
const KNOWN: [(&str, u64, i128); 12] = [
    ("q0", 9_200_000, 66_652_792_906_362),
    ("q1", 9_200_000, 60_520_735_958_976_696),
    ("q2", 74_789, 539_627_410_561),
    ("q3", 60_319, 18_238_619_169),
    ("q4", 559_405, 31_293_735_040),
    ("q5", 537, 444_256),
    ("q6", 559_405, 16_069_626_279_566),
    ("q7", 100, 9_998_233_149),
    ("q8", 84_245, 8_503_665_306),
    ("q11", 199_917, 9_200_000),
    ("q18", 7_559_261, 64_072_826_040_615),
    ("q20", 1_868_190, 13_539_116_839_573),
];

/// Runs a query once.
pub(crate) fn run(arguments: &Arguments, events: u64) -> Result<Totals> {
    let parameters = [
        ("query", arguments.query.clone()),
        ("events", events.to_string()),
        ("event_rate", arguments.event_rate.to_string()),
        ("whole", true.to_string()),
    ];
    let report = execute_pipeline(arguments, &arguments.nexmark_pipeline, &parameters)?;
    let (mut out_rows, mut out_sum) = (0, 0);
    for sink in &report.sinks {
        let is_result = sink.name == "results";
        for (name, value) in &sink.values {
            match name.as_str() {
                // Without a query events are all there is.
                "rows" if is_result || arguments.query == "none" => out_rows += value.parse::<u64>()?,
                "sum" if is_result => out_sum += value.replace('.', "").parse::<i128>().context("sum")?,
                _ => {}
            }
        }
    }
    Ok(Totals {
        seconds: report.elapsed.as_secs_f64(),
        out_rows,
        out_sum,
        gap_ms_max: None,
        checkpoints: arguments.checkpoint_ms.map(|_| report.checkpoints.clone()),
    })
}

/// Whether two runs of a query give the same: q12 goes by the clock, and which bids are the last so far depends on the order
/// of those that come through several subtasks.
pub(crate) fn is_ordered(query: &str, alone: bool) -> bool {
    query != "q12" && (alone || query != "q18")
}

/// Refuses wrong results where they are known.
pub(crate) fn check(arguments: &Arguments, events: u64, totals: &Totals) -> Result<()> {
    let query = arguments.query.as_str();
    let expected = match query {
        "none" => (events, 0),
        "q12" if events.is_multiple_of(EPOCH) => (totals.out_rows, i128::from(events / EPOCH * BIDS)),
        _ if !is_ordered(query, arguments.parallelism == 1) => return Ok(()),
        _ if (events, arguments.event_rate) != (EVENTS, EVENT_RATE) => return Ok(()),
        _ => match KNOWN.iter().find(|(known, ..)| *known == query) {
            Some(&(_, rows, sum)) => (rows, sum),
            None => return Ok(()),
        },
    };
    if (totals.out_rows, totals.out_sum) != expected {
        let (rows, sum) = (totals.out_rows, totals.out_sum);
        bail!("wrong result: {rows} rows with sum {sum}; expected {expected:?}");
    }
    Ok(())
}
