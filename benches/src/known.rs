//! Totals that every run must reach exactly, computed independently of the engine.

use anyhow::{Result, bail};

use crate::{Arguments, Totals, Workload, native, nexmark};

/// (workload, rows, keys, result rows, sum of results) at 100 events per ms. Keyed totals hold for
/// parallelism 1 only: a running sum depends on the order of rows.
const KNOWN: [(Workload, u64, u64, Option<u64>, i128); 9] = [
    (
        Workload::Stateless,
        40_000_000,
        100_000,
        Some(26_680_000),
        413_106_760_000,
    ),
    (
        Workload::Keyed,
        20_000_000,
        100_000,
        Some(20_000_000),
        1_009_002_497_537,
    ),
    (Workload::Keyed, 20_000_000, 5_000_000, Some(20_000_000), 29_964_483_118),
    (Workload::Tumbling, 20_000_000, 10_000, Some(200_000), 9_990_000_000),
    (Workload::Triggered, 10_000_000, 10_000, Some(100_000), 4_995_000_000),
    // The number of windows is the clock's matter; every row is in one.
    (Workload::ProcessingTime, 10_000_000, 10_000, None, 4_995_000_000),
    (Workload::Sliding, 5_000_000, 10_000, Some(210_000), 29_970_000_000),
    (Workload::Session, 5_000_000, 100_000, Some(1_863_638), 2_497_500_000),
    // The number of firings depends on how often watermarks are sent; every event is counted once.
    (Workload::Timer, 10_000_000, 1_000_000, None, 10_000_000),
];

/// Refuses wrong results where they are known.
pub(crate) fn check(arguments: &Arguments, rows: u64, keys: u64, totals: &Totals) -> Result<()> {
    if arguments.workload == Workload::Nexmark {
        return nexmark::check(arguments, rows, totals);
    }
    if arguments.workload == Workload::Keyed && totals.out_rows != rows {
        bail!("wrong result: {} rows, not {rows}", totals.out_rows);
    }
    if arguments.workload == Workload::LargeMap && arguments.parallelism == 1 && arguments.zipf.is_none() {
        // The same sums as those of the native loop, which knows no maps.
        let native = native::run(Workload::Keyed, rows, keys, arguments.per_ms());
        if (native.out_rows, native.out_sum) != (totals.out_rows, totals.out_sum) {
            bail!("wrong result: {totals:?}; expected {native:?}");
        }
    }
    if matches!(arguments.workload, Workload::WindowJoin | Workload::Cep) {
        let native = native::run(arguments.workload, rows, keys, arguments.per_ms());
        if (native.out_rows, native.out_sum) != (totals.out_rows, totals.out_sum) {
            bail!("wrong result: {totals:?}; expected {native:?}");
        }
    }
    if arguments.zipf.is_some()
        || arguments.ttl_ms.is_some()
        || arguments.per_ms() != 100
        || (arguments.workload == Workload::Keyed && arguments.parallelism > 1)
    {
        return Ok(());
    }
    let known = KNOWN
        .iter()
        .find(|known| (known.0, known.1, known.2) == (arguments.workload, rows, keys));
    let Some(&(_, _, _, out_rows, out_sum)) = known else {
        return Ok(());
    };
    if out_rows.is_some_and(|out_rows| out_rows != totals.out_rows) || out_sum != totals.out_sum {
        bail!(
            "wrong result: {} rows with sum {}; expected {out_rows:?} and {out_sum}",
            totals.out_rows,
            totals.out_sum
        );
    }
    Ok(())
}
