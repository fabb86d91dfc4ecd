//! A guest that breaks the contract: each breach is refused and named, whatever the chain's head.

use std::time::Duration;

use millrace_core::Fault;
use millrace_engine::{JobOptions, Limits};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, number, options};

fn limited() -> JobOptions {
    let limits = Limits {
        call_deadline: Duration::from_secs(2),
        memory_bytes: 256 << 20,
        ..Limits::default()
    };
    JobOptions { limits, ..options() }
}

fn fail(kind: &str, head: &str, code: &str, fault: Fault, parts: &[&str]) {
    let pairs = [("kind", kind), ("head", head)];
    jobs::fail(Guest::Raw, limited(), &pairs, code, fault, parts);
}

fn refuse_graph(kind: &str, head: &str, code: &str, parts: &[&str]) {
    fail(kind, head, code, Fault::User, parts);
}

fn refuse_call(kind: &str, head: &str, parts: &[&str]) {
    let parts: Vec<&str> = [&["operator `function`: the guest broke the contract: "], parts].concat();
    fail(kind, head, "PL0007", Fault::Pipeline, &parts);
}

#[test]
fn a_guest_that_keeps_to_it_runs() {
    for head in ["stateless", "keyed", "window"] {
        let report = jobs::succeed(Guest::Raw, limited(), &[("head", head)]);
        assert_eq!(number(&report, "sink", "rows"), 10, "{head}");
        assert_eq!(number(&report, "sink", "sum"), 45, "{head}");
    }
}

#[test]
fn graphs_with_indices_out_of_range() {
    for (kind, part) in [
        ("dangling-from", "names operator 17, but has 4"),
        ("dangling-to", "names operator 17, but has 4"),
        ("schema-index", "names schema 9, but has 4"),
        ("chain-index", "operator `function` is in chain 9, which is not there"),
        ("member-index", "names operator 9, but has 4"),
        ("foreign-member", "operator `sink` does not belong to chain 0"),
        ("no-members", "chain 0 has no operators"),
        ("no-name", "an operator has no name"),
        ("foreign-port", "a port of operator `source`, which is not in it"),
        ("many-operators", "20004 operators; 10000 are possible"),
    ] {
        refuse_graph(kind, "stateless", "GR0001", &[part]);
    }
}

#[test]
fn graphs_whose_edges_do_not_fit() {
    for (kind, head, code, parts) in [
        (
            "cycle",
            "stateless",
            "GR0003",
            vec!["a cycle through `function`, `again`"],
        ),
        ("self-loop", "stateless", "GR0003", vec!["cycle", "`function`"]),
        (
            "dangling-port",
            "stateless",
            "GR0006",
            vec!["from `function` to `sink`", "no output port 5"],
        ),
        (
            "dangling-input",
            "stateless",
            "GR0006",
            vec!["`function` has no input 5"],
        ),
        (
            "no-edge",
            "stateless",
            "GR0006",
            vec!["input 0 of `function` has no edge"],
        ),
        (
            "into-source",
            "stateless",
            "GR0006",
            vec!["`source` is a source and takes no rows"],
        ),
        (
            "out-of-sink",
            "stateless",
            "GR0006",
            vec!["edge from `sink` to `function`"],
        ),
        (
            "mismatch",
            "stateless",
            "GR0007",
            vec!["field `id` is sent as Int64, but expected as Int32"],
        ),
        ("uids", "stateless", "GR0005", vec!["both have the uid `same`"]),
        ("group-blank", "stateless", "GR0022", vec!["`function`", "blank"]),
        ("group-long", "keyed", "GR0022", vec!["`function`", "300 bytes", "255"]),
        (
            "auto-uid",
            "stateless",
            "GR0013",
            vec!["operator `function` has the uid `auto-0123`"],
        ),
        (
            "empty-uid",
            "stateless",
            "GR0013",
            vec!["operator `function` has the uid ``"],
        ),
        ("key-column", "keyed", "GR0008", vec!["the key names column 7"]),
        (
            "not-keyed",
            "keyed",
            "GR0008",
            vec!["`function` is keyed, but the rows are not partitioned"],
        ),
        ("key-not-computed", "keyed", "GR0008", vec!["the key is to be computed"]),
        (
            "float-key",
            "keyed",
            "KY0002",
            vec!["operator `function`", "field `id` cannot be part of a key"],
        ),
        ("time-field", "stateless", "GR0009", vec!["event time is field `when`"]),
        (
            "time-not-computed",
            "stateless",
            "GR0009",
            vec!["event time is to be computed"],
        ),
        (
            "mark-field",
            "stateless",
            "GR0009",
            vec!["the watermark is field `when`"],
        ),
        (
            "mark-not-computed",
            "stateless",
            "GR0009",
            vec!["the watermark is to be computed"],
        ),
        ("aligned", "stateless", "GR0017", vec!["aligned in the group `all`"]),
        (
            "late-port",
            "window",
            "GR0006",
            vec!["the late output of `function` is port 4"],
        ),
        (
            "ttl",
            "keyed",
            "GR0015",
            vec!["state `one` of `function`", "do not say what they touch"],
        ),
        (
            "ttl-0",
            "keyed",
            "GR0015",
            vec!["state `one` of `function`", "less than a ms"],
        ),
        (
            "ttl",
            "window",
            "GR0015",
            vec!["state `sum` of `function`", "as long as their windows"],
        ),
        (
            "max-parallelism",
            "stateless",
            "GR0012",
            vec!["max parallelism 4294967295"],
        ),
        (
            "parallelism-0",
            "stateless",
            "GR0012",
            vec!["operator `function` has parallelism 0"],
        ),
        (
            "connector",
            "stateless",
            "CN0101",
            vec!["sink `sink`", "there is no connector `telegraph`"],
        ),
        ("option", "stateless", "CN0004", vec!["there is no option `colour`"]),
        (
            "option-twice",
            "stateless",
            "CN0001",
            vec!["option `sum` is given twice"],
        ),
    ] {
        refuse_graph(kind, head, code, &parts);
    }
}

#[test]
fn schemas_and_windows_that_make_no_sense() {
    for (kind, head, part) in [
        ("schema-children", "stateless", "ends before all children"),
        ("schema-children-many", "stateless", "ends before all children"),
        ("schema-plain-children", "stateless", "ends before all children"),
        ("schema-names", "stateless", "two fields named `id`"),
        ("schema-deep", "stateless", "`deeper` is nested deeper than 32"),
        ("fixed-size-binary-0", "stateless", "field `text` has 0 bytes per value"),
        (
            "fixed-size-binary-huge",
            "stateless",
            "field `text` has 4294967295 bytes per value",
        ),
        (
            "decimal",
            "stateless",
            "field `text` is a decimal of more than 38 digits",
        ),
        ("map", "stateless", "field `items` is a map whose child is not a struct"),
        (
            "state-schema",
            "keyed",
            "the schema of state `one` is not one nullable field",
        ),
        (
            "state-schema",
            "window",
            "the schema of state `sum` is not one nullable field",
        ),
        (
            "ttl-huge",
            "keyed",
            "time to live of 18446744073709551615 ms is too long",
        ),
    ] {
        refuse_graph(kind, head, "GR0001", &[part]);
    }
    for (kind, part) in [
        ("window-size", "a window's size is 0 ms; it must be at least 1 ms"),
        ("window-huge", "a session's gap of 9223372036854775807 ms is too long"),
        ("window-slices", "each row in 86400000000 windows"),
    ] {
        refuse_graph(kind, "window", "WN0001", &["operator `", part]);
    }
}

#[test]
fn malformed_blocks_name_port_and_column() {
    let cases = [
        ("rows-more", "column `id`: 11 values take 88 bytes, not 80"),
        ("rows-fewer", "column `id`: 9 values take 72 bytes, not 80"),
        ("rows-huge", "column `id`: 4294967295 values"),
        ("ids-short", "column `id`: 10 values take 80 bytes, not 72"),
        ("utf8", "column `text`: it is not UTF-8"),
        ("utf8-split", "column `text`: it is not UTF-8"),
        (
            "offsets-descending",
            "column `text`: offsets are not ascending at row 1",
        ),
        (
            "offsets-descending-2",
            "column `text`: offsets are not ascending at row 3",
        ),
        ("offsets-first", "column `text`: the first offset is 1, not 0"),
        (
            "offsets-beyond",
            "column `text`: offsets end at 140, but there are 40 bytes",
        ),
        (
            "offsets-short",
            "column `text`: 10 rows have 44 bytes of offsets, not 40",
        ),
        ("offsets-huge", "column `text`: offsets end at 2147483647"),
        ("items-beyond", "column `items.item`: 10 values take 40 bytes, not 36"),
        ("items-descending", "column `items`: offsets are not ascending at row 1"),
        ("validity-short", "column `text`: a bitmap of 10 takes 2 bytes, not 1"),
        ("ends-fewer", "column `items.item`: the block ends after 5 buffers"),
        ("ends-more", "it has 7 buffers, but its schema has 6"),
        ("ends-none", "column `id`: the block ends after 0 buffers"),
        ("ends-beyond", "buffer 5 ends at 1276"),
        ("ends-huge", "buffer 1 ends at 4294967295"),
        ("ends-descending", "buffer 2 ends at 82"),
        ("data-short", "buffer 0 ends at 80, outside 0..8"),
        ("data-none", "buffer 0 ends at 80, outside 0..0"),
    ];
    for (kind, part) in cases {
        for head in ["stateless", "keyed"] {
            refuse_call(kind, head, &["port 0: malformed block: ", part]);
        }
    }
    for kind in ["utf8", "ends-more", "data-none"] {
        refuse_call(kind, "window", &["port 0: malformed block: "]);
    }
}

#[test]
fn blocks_for_ports_that_are_not_there() {
    for head in ["stateless", "keyed", "window"] {
        refuse_call("port", head, &["a block for port 3"]);
    }
    refuse_call("emit-port", "stateless", &["a block for port 9"]);
    refuse_call("emit-malformed", "stateless", &["the block ends after 5 buffers"]);
    let report = jobs::succeed(Guest::Raw, limited(), &[("kind", "emit-block")]);
    assert_eq!(number(&report, "sink", "rows"), 20);
}

#[test]
fn timers_and_state_flags_out_of_range() {
    refuse_call("timer-entry", "keyed", &["timer action 0 for entry 10 of 10"]);
    refuse_call("timer-action", "keyed", &["timer action 4 for entry 0 of 10"]);
    refuse_call("timer-lengths", "keyed", &["timers of unequal length"]);
    refuse_call("touched-short", "keyed", &["10 state flags for 10 entries"]);
    refuse_call("touched-long", "keyed", &["21 state flags for 10 entries"]);
    refuse_call("accumulate-timer", "window", &["timers from a chain that is not keyed"]);
    refuse_call(
        "stateless-timer",
        "stateless",
        &["timers from a chain that is not keyed"],
    );
    refuse_call("live-bytes", "keyed", &["7 changes of live bytes for"]);
    refuse_call(
        "emitted-many",
        "keyed",
        &["50 counts of rows from a chain of 1 operators"],
    );
    refuse_call("data-more", "stateless", &["its buffers end at ", "its data at "]);
    // Odd, but within the contract: they run, and a timer at the end of time fires there.
    for (kind, rows) in [
        ("timer", 11),
        ("timer-first", 11),
        ("timer-last", 11),
        ("touched", 10),
        ("touched-bits", 10),
        ("live-bytes-huge", 10),
        ("emitted-huge", 10),
        ("more", 10),
    ] {
        let report = jobs::succeed(Guest::Raw, limited(), &[("kind", kind), ("head", "keyed")]);
        assert_eq!(number(&report, "sink", "rows"), rows, "{kind}");
    }
}

#[test]
fn a_call_that_is_resumed_without_end() {
    for head in ["stateless", "keyed", "window"] {
        let parts = ["operator `function`", "did not return within 2 s"];
        fail("more-forever", head, "PL0003", Fault::Pipeline, &parts);
    }
}

#[test]
fn rows_that_are_too_large() {
    let parts = [
        "operator `function`",
        "put out a block of 81 MiB with 1 rows",
        "the limit is 64 MiB",
    ];
    let fail = |kind, parts: &[&str]| {
        let pairs = [("kind", kind), ("head", "stateless")];
        jobs::fail(Guest::Raw, options(), &pairs, "PL0006", Fault::Pipeline, parts);
    };
    fail("row-huge", &parts);
    let parts = ["operator `function`", "handed over more than 128 MiB at once"];
    fail("row-too-huge", &parts);
}

#[test]
fn writes_to_large_states_out_of_range() {
    for (kind, part) in [
        ("write-state", "writes to state 0, which is no large state"),
        (
            "write-state-huge",
            "writes to state 4294967295, which is no large state",
        ),
        ("write-entry", "a write to a collection of entry 10 of 10"),
        ("write-lengths", "writes to a collection of unequal length"),
        ("write-action", "action 4 on large state 1"),
        ("write-append-map", "action 2 on large state 1"),
        ("write-put-list", "action 0 on large state 2"),
        ("write-keys-fewer", "keys for state 1: not 2, as its actions need"),
        ("write-values-more", "values for state 1: not 1, as its actions need"),
        ("write-keys-malformed", "keys for state 1: malformed block"),
        ("write-values-malformed", "values for state 1: malformed block"),
    ] {
        refuse_call(kind, "large", &[part]);
    }
    // Chains without large states have nothing to write to.
    refuse_call("write", "keyed", &["writes to state 1, which is no large state"]);
    for kind in ["write", "read"] {
        let report = jobs::succeed(Guest::Raw, limited(), &[("kind", kind), ("head", "large")]);
        assert_eq!(number(&report, "sink", "rows"), 10, "{kind}");
    }
}

#[test]
fn large_states_that_make_no_sense() {
    for (kind, head, part) in [
        (
            "large-schema",
            "large",
            "the schema of state `map`, a large map, is no map",
        ),
        (
            "large-kind",
            "large",
            "the schema of state `map`, a large list, is no list",
        ),
        (
            "large-writes",
            "large",
            "state `map` is large, in a chain that writes all states always",
        ),
        ("large-migrations", "large", "state `map` is large and has migrations"),
        (
            "large-accumulator",
            "window",
            "the accumulator `sum` of a window is large",
        ),
    ] {
        refuse_graph(kind, head, "GR0001", &[part]);
    }
    let parts = ["state `map`", "field `key` cannot be part of a key"];
    refuse_graph("large-key", "large", "KY0002", &parts);
}

#[test]
fn rejections_out_of_range() {
    for head in ["stateless", "keyed"] {
        refuse_call("reject-entry", head, &["operator 2 rejected entry 10 of 10"]);
        refuse_call("reject-operator", head, &["operator 77 rejected entry 1"]);
        refuse_call("reject-foreign", head, &["operator 0 rejected entry 1"]);
        refuse_call("reject-lengths", head, &["rejections of unequal length"]);
        for kind in ["reject-ends", "reject-ends-descending", "reject-split"] {
            refuse_call(kind, head, &["causes end out of range"]);
        }
        let report = jobs::succeed(Guest::Raw, limited(), &[("kind", "reject"), ("head", head)]);
        let function = jobs::task(&report.tasks, "function");
        assert_eq!(function.total(|metrics| &metrics.rejected), 1);
    }
}

#[test]
fn errors_that_calls_return() {
    let named = ["operator `function`, row {id: 3}: not today"];
    fail("call-error", "stateless", "PL0008", Fault::Pipeline, &named);
    fail("call-error", "keyed", "PL0008", Fault::Pipeline, &named);
    fail(
        "call-error",
        "window",
        "PL0008",
        Fault::Pipeline,
        &["operator `function`, key {id: 3}, window "],
    );
    let unnamed = ["operator `function`: not today"];
    fail("call-error-nowhere", "stateless", "PL0008", Fault::Pipeline, &unnamed);
    fail("call-error-nowhere", "window", "PL0008", Fault::Pipeline, &unnamed);
    fail(
        "open-error",
        "stateless",
        "PL0008",
        Fault::Pipeline,
        &["operator `function`: closed on Mondays"],
    );
    fail(
        "panicked-nowhere",
        "stateless",
        "PL0001",
        Fault::Pipeline,
        &["operator `function`: panicked: lost"],
    );
    fail(
        "trap",
        "stateless",
        "PL0002",
        Fault::Pipeline,
        &["operator `function`, row {id: 0}: trapped: ", "misuse"],
    );
}

#[test]
fn imports_out_of_range() {
    for (kind, head, part) in [
        (
            "map-get",
            "stateless",
            "`collections.map-get`: no keyed call with large states runs",
        ),
        (
            "map-get",
            "keyed",
            "`collections.map-get`: no keyed call with large states runs",
        ),
        ("map-get", "large", "`collections.map-get`: state 0 is no large map"),
        (
            "map-get-chain",
            "large",
            "collections of chain 7 while a call of chain 0 runs",
        ),
        ("map-get-list", "large", "state 2 is no large map"),
        ("map-get-entry", "large", "a collection of entry 10 of 10"),
        ("map-get-fewer", "large", "1 keys to get for 2 entries"),
        ("map-get-malformed", "large", "the keys to get: malformed block"),
        ("map-scan", "large", "`collections.map-scan`: state 0 is no large map"),
        ("map-scan-entry", "large", "a collection of entry 4294967295 of 10"),
        ("map-scan-keys", "large", "2 keys to scan from"),
        (
            "list-length",
            "large",
            "`collections.list-length`: state 1 is no large list",
        ),
        (
            "list-read",
            "large",
            "`collections.list-read`: state 0 is no large list",
        ),
        ("list-read-entry", "large", "a collection of entry 10 of 10"),
    ] {
        let parts = [
            "operator `function`",
            "the guest broke the contract: `collections.",
            part,
        ];
        fail(kind, head, "PL0007", Fault::Pipeline, &parts);
    }
    let part = "failed: 4294967295 random bytes at once are too many";
    fail(
        "random-huge",
        "stateless",
        "PL0002",
        Fault::Pipeline,
        &["operator `function`", part],
    );
    for kind in ["metric-unknown", "metric-operator", "log-long"] {
        let report = jobs::succeed(Guest::Raw, limited(), &[("kind", kind)]);
        assert_eq!(number(&report, "sink", "rows"), 10, "{kind}");
    }
}

/// Blocks and effects at random: the job succeeds or is told what the guest broke; the host never breaks.
#[test]
fn guests_at_random() {
    let loaded = |seed: u64| JobOptions { seed, ..limited() };
    let (mut succeeded, mut refused) = (0, 0);
    for (kind, head) in [
        ("fuzz-block", "stateless"),
        ("fuzz-block", "keyed"),
        ("fuzz-block", "window"),
        ("fuzz-effects", "keyed"),
        ("fuzz-effects", "large"),
    ] {
        for seed in 0..150 {
            match jobs::run(Guest::Raw, loaded(seed), &[("kind", kind), ("head", head)]) {
                Ok(_) => succeeded += 1,
                Err(error) => {
                    assert_eq!(error.fault(), Fault::Pipeline, "{kind} {head}, seed {seed}: {error}");
                    assert!(
                        ["PL0007", "KO0002"].contains(&error.code()),
                        "{kind} {head}, seed {seed}: {error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(
        succeeded > 20 && refused > 200,
        "{succeeded} succeeded, {refused} were refused"
    );
}
