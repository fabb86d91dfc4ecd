//! What becomes of operators and states, as tables: what was stored, what is declared, what is said of it.

use arrow_schema::{DataType, Field};

use super::*;
use crate::graph::{Renewal, TimeToLive};
use crate::schema::{Declared, SliceGrid};

fn state(name: &str, data_type: DataType) -> DeclaredState {
    DeclaredState {
        value: Declared::plain(Field::new(name, data_type, true)),
        migrations: Vec::new(),
        ttl: None,
        large: false,
        broadcast: false,
    }
}

fn keyed(kind: KeyedKind, states: Vec<DeclaredState>) -> KeyedSchema {
    KeyedSchema {
        kind,
        key: vec![Declared::plain(Field::new("id", DataType::Int64, false))],
        states,
        windows: None,
    }
}

fn stored(id: &str, keyed: Option<KeyedSchema>) -> StoredOperator {
    StoredOperator {
        id: id.to_owned(),
        name: format!("{id} of old"),
        parallelism: 2,
        keyed,
        connector: None,
        splits: 0,
        transactions: 0,
        holds_state: true,
    }
}

fn declared(id: &str, keyed: Option<KeyedSchema>) -> DeclaredOperator {
    DeclaredOperator {
        id: id.to_owned(),
        name: id.to_owned(),
        parallelism: 3,
        keyed,
        connector: None,
    }
}

fn code_and_message(upgrade: &Upgrade, may_lose: bool) -> Option<(String, String)> {
    let refusal = upgrade.refusal("savepoint `s`", may_lose);
    refusal.map(|error| (error.code().to_owned(), error.to_string()))
}

/// One operator with these states then and now: outcome of the operator and of its states, and the refusal.
fn check(
    then: Vec<DeclaredState>,
    now: Vec<DeclaredState>,
    expect: Outcome,
    states: &[(&str, Outcome)],
    refusal: Option<(&str, &str)>,
) {
    let then = stored("op", Some(keyed(KeyedKind::Keyed, then)));
    let now = declared("op", Some(keyed(KeyedKind::Keyed, now)));
    let upgrade = decide(&[then], &[now], (128, 128));
    let operator = &upgrade.operators[0];
    assert_eq!(operator.outcome, expect);
    let got: Vec<(&str, Outcome)> = operator
        .states
        .iter()
        .map(|state| (state.name.as_str(), state.outcome))
        .collect();
    assert_eq!(got, states);
    let refusal = refusal.map(|(code, message)| (code.to_owned(), message.to_owned()));
    assert_eq!(code_and_message(&upgrade, false), refusal);
    if !matches!(&refusal, Some((code, _)) if code == "CK0010") {
        assert_eq!(code_and_message(&upgrade, true), None);
        assert!(operator.plan.is_some());
    }
}

fn list_of(name: &str, item: DataType, large: bool) -> DeclaredState {
    let item = std::sync::Arc::new(Field::new_list_field(item, false));
    DeclaredState {
        large,
        broadcast: false,
        ..state(name, DataType::List(item))
    }
}

#[test]
fn large_states_are_converted_by_the_rules_and_stay_large() {
    use DataType::{Int32, Int64};
    check(
        vec![list_of("a", Int32, true)],
        vec![list_of("a", Int64, true)],
        Outcome::Converted,
        &[("a", Outcome::Converted)],
        None,
    );
    check(
        vec![list_of("a", Int64, true)],
        vec![list_of("a", Int64, true)],
        Outcome::Kept,
        &[("a", Outcome::Kept)],
        None,
    );
    for large in [false, true] {
        let reason = match large {
            false => "it was kept as a whole, and is a large state now, whose entries are kept one by one",
            true => "it was a large state, whose entries are kept one by one, and is one that is kept as a whole now",
        };
        let remedy = "give it another name, and read the old one as long as it holds something";
        let message =
            format!("savepoint `s` does not fit the pipeline: operator `op` (id `op`), state `a`: {reason}; {remedy}");
        check(
            vec![list_of("a", Int64, large)],
            vec![list_of("a", Int64, !large)],
            Outcome::Incompatible,
            &[("a", Outcome::Incompatible)],
            Some(("CK0010", &message)),
        );
    }
}

#[test]
fn states_are_matched_by_name() {
    use DataType::{Int32, Int64, Utf8};
    let (a, b) = (|| state("a", Int64), || state("b", Utf8));
    check(vec![a()], vec![a()], Outcome::Kept, &[("a", Outcome::Kept)], None);
    check(
        vec![a(), b()],
        vec![b(), a()],
        Outcome::Kept,
        &[("b", Outcome::Kept), ("a", Outcome::Kept)],
        None,
    );
    check(
        vec![a()],
        vec![a(), b()],
        Outcome::Kept,
        &[("a", Outcome::Kept), ("b", Outcome::New)],
        None,
    );
    check(
        vec![state("a", Int32)],
        vec![a()],
        Outcome::Converted,
        &[("a", Outcome::Converted)],
        None,
    );
    check(
        vec![a()],
        vec![state("a", Int32)],
        Outcome::Incompatible,
        &[("a", Outcome::Incompatible)],
        Some((
            "CK0010",
            "savepoint `s` does not fit the pipeline: operator `op` (id `op`), state `a`: int64 cannot become int32",
        )),
    );
    check(
        vec![a(), b()],
        vec![a()],
        Outcome::Converted,
        &[("a", Outcome::Kept), ("b", Outcome::Dropped)],
        Some((
            "CK0011",
            "savepoint `s` holds state `b` of operator `op` (id `op`), which it does not declare",
        )),
    );
    let mut renamed = state("c", Int64);
    renamed.value.hints.aliases.push("a".to_owned());
    check(
        vec![a()],
        vec![renamed],
        Outcome::Converted,
        &[("c", Outcome::Converted)],
        None,
    );
}

#[test]
fn a_migration_is_for_exactly_what_is_stored() {
    use DataType::{Int8, Int64, Utf8};
    let mut text = state("a", Utf8);
    text.migrations = vec![Declared::plain(Field::new("value", Int64, true))];
    let old = |data_type| vec![state("a", data_type)];
    check(
        old(Int64),
        vec![text.clone()],
        Outcome::Migrated,
        &[("a", Outcome::Migrated)],
        None,
    );
    // What is the same already is left alone.
    check(
        old(Utf8),
        vec![text.clone()],
        Outcome::Kept,
        &[("a", Outcome::Kept)],
        None,
    );
    check(
        old(Int8),
        vec![text],
        Outcome::Incompatible,
        &[("a", Outcome::Incompatible)],
        Some((
            "CK0010",
            "savepoint `s` does not fit the pipeline: operator `op` (id `op`), state `a`: int8 cannot become utf8; \
             operator `op` (id `op`), state `a`: none of its migrations is from exactly the stored schema",
        )),
    );
    // It outweighs the rules, which would convert as well.
    let mut wide = state("a", Int64);
    wide.migrations = vec![Declared::plain(Field::new("value", Int8, true))];
    check(
        old(Int8),
        vec![wide],
        Outcome::Migrated,
        &[("a", Outcome::Migrated)],
        None,
    );
}

#[test]
fn operators_are_added_removed_and_put_in_another_order() {
    let one = || Some(keyed(KeyedKind::Keyed, vec![state("a", DataType::Int64)]));
    let upgrade = decide(
        &[stored("x", one()), stored("y", one())],
        &[declared("y", one()), declared("z", one())],
        (128, 128),
    );
    let got: Vec<(&str, Outcome)> = upgrade
        .operators
        .iter()
        .map(|operator| (operator.id.as_str(), operator.outcome))
        .collect();
    assert_eq!(
        got,
        [("y", Outcome::Kept), ("z", Outcome::New), ("x", Outcome::Dropped)]
    );
    let lost = "savepoint `s` holds state of operator `x of old` (id `x`), which the pipeline does not have";
    assert_eq!(
        code_and_message(&upgrade, false),
        Some(("CK0011".to_owned(), lost.to_owned()))
    );
    assert_eq!(code_and_message(&upgrade, true), None);
}

#[test]
fn kinds_of_state_and_grids_of_windows_do_not_change() {
    let grid = |slice_ms, offset_ms| KeyedKind::Windows(Some(SliceGrid { slice_ms, offset_ms }));
    let check = |then, now, fits: bool| {
        let sums = || vec![state("sum", DataType::Int64)];
        let upgrade = decide(
            &[stored("op", Some(keyed(then, sums())))],
            &[declared("op", Some(keyed(now, sums())))],
            (128, 128),
        );
        let refusal = code_and_message(&upgrade, true);
        assert_eq!(refusal.is_none(), fits, "{then:?} {now:?} {refusal:?}");
    };
    check(grid(10, 0), grid(10, 0), true);
    check(grid(10, 0), grid(20, 0), false);
    check(grid(10, 0), grid(10, 5), false);
    check(KeyedKind::Windows(None), grid(10, 5), true);
    check(KeyedKind::Sessions, KeyedKind::Sessions, true);
    check(KeyedKind::Sessions, grid(10, 0), false);
    check(KeyedKind::Keyed, KeyedKind::Sessions, false);
}

#[test]
fn windows_do_not_change() {
    let windows = |kind, windows: Option<&str>| {
        let mut schema = keyed(kind, vec![state("sum", DataType::Int64)]);
        schema.windows = windows.map(str::to_owned);
        Some(schema)
    };
    let slices = |slice_ms| KeyedKind::Windows(Some(SliceGrid { slice_ms, offset_ms: 0 }));
    let refusal = |then, now| {
        let upgrade = decide(&[stored("op", then)], &[declared("op", now)], (128, 128));
        code_and_message(&upgrade, true)
    };
    let (one, other) = ("sliding windows of 3s every 1s", "sliding windows of 4s every 1s");
    for kind in [slices(1000), KeyedKind::Keyed, KeyedKind::Sessions] {
        let message = format!(
            "savepoint `s` does not fit the pipeline: operator `op` (id `op`): it kept {one}, and keeps {other} now"
        );
        let expect = Some(("CK0010".to_owned(), message));
        assert_eq!(refusal(windows(kind, Some(one)), windows(kind, Some(other))), expect);
        assert_eq!(refusal(windows(kind, Some(one)), windows(kind, Some(one))), None);
        // Earlier versions did not say, and not all can.
        assert_eq!(refusal(windows(kind, None), windows(kind, Some(one))), None);
        assert_eq!(refusal(windows(kind, Some(one)), windows(kind, None)), None);
    }
    let (_, message) = refusal(windows(slices(1000), None), windows(slices(500), Some(other))).expect("other slices");
    assert!(message.ends_with("of slices of 500 ms from 0 ms on now"), "{message}");
}

#[test]
fn positions_and_transactions_belong_to_a_connector() {
    let check = |then: Option<&str>, now: Option<&str>, splits, transactions, expect: Option<&str>| {
        let mut old = stored("op", None);
        (old.connector, old.splits, old.transactions) = (then.map(str::to_owned), splits, transactions);
        let mut new = declared("op", None);
        new.connector = now.map(str::to_owned);
        let refusal = code_and_message(&decide(&[old], &[new], (128, 128)), true);
        let message = refusal.map(|(_, message)| message);
        match expect {
            None => assert_eq!(message, None),
            Some(part) => assert!(
                message.as_ref().is_some_and(|message| message.contains(part)),
                "{message:?}"
            ),
        }
    };
    check(Some("files"), Some("files"), 2, 0, None);
    check(
        Some("files"),
        Some("generator"),
        2,
        0,
        Some("positions are of connector `files`"),
    );
    check(Some("files"), Some("generator"), 0, 0, None);
    check(
        Some("files"),
        Some("postgres"),
        0,
        1,
        Some("transactions are of connector `files`"),
    );
    check(Some("files"), None, 1, 0, Some("neither a source nor a sink any more"));
    check(None, Some("files"), 1, 0, None);
    check(None, None, 1, 0, None);
}

#[test]
fn the_number_of_key_groups_stays() {
    let upgrade = decide(&[], &[], (128, 64));
    let (code, message) = code_and_message(&upgrade, true).expect("it changed");
    assert_eq!(code, "CK0012");
    assert!(
        message.contains("has 128 key groups") && message.contains("now has 64"),
        "{message}"
    );
}

#[test]
fn times_to_live_may_change() {
    let state = |ttl: Option<(i64, Renewal)>| DeclaredState {
        ttl: ttl.map(|(after_ms, renewed_by)| TimeToLive { after_ms, renewed_by }),
        ..state("a", DataType::Int64)
    };
    let (short, long) = (Some((10, Renewal::Write)), Some((20, Renewal::ReadOrWrite)));
    for (then, now, outcome, same, text) in [
        (short, short, Outcome::Kept, true, None),
        (
            short,
            long,
            Outcome::Kept,
            true,
            Some(
                "its time to live is 20 ms from reads and writes on, and was 10 ms from writes on: as soon as it is renewed",
            ),
        ),
        (
            None,
            short,
            Outcome::Converted,
            false,
            Some("its time to live is 10 ms from writes on, and begins at the start"),
        ),
        (
            long,
            None,
            Outcome::Converted,
            false,
            Some("it has no time to live any more: what has not expired stays"),
        ),
    ] {
        let (then, now) = (
            keyed(KeyedKind::Keyed, vec![state(then)]),
            keyed(KeyedKind::Keyed, vec![state(now)]),
        );
        assert_eq!(then.is_same(&now), same);
        let upgrade = decide(&[stored("op", Some(then))], &[declared("op", Some(now))], (128, 128));
        let operator = &upgrade.operators[0];
        assert_eq!((operator.outcome, operator.states[0].outcome), (outcome, outcome));
        let changes: Vec<&str> = operator.states[0]
            .changes
            .iter()
            .map(|change| change.what.as_str())
            .collect();
        assert_eq!(changes, text.into_iter().collect::<Vec<_>>());
        assert_eq!(operator.plan.as_ref().map(OperatorPlan::is_same), Some(same));
        assert_eq!(code_and_message(&upgrade, false), None);
    }
}
