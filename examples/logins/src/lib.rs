//! Finds guessed passwords: three failed logins in a row, and then one that succeeds, within a minute.

use millrace::prelude::*;

/// A login, as it is in the file.
#[derive(Record)]
struct Login<'a> {
    user: &'a str,
    time: Timestamp,
    address: &'a str,
    ok: bool,
}

/// A user whose password was guessed, or nearly so.
#[derive(Record, Clone)]
struct Alarm {
    user: String,
    since: Timestamp,
    failures: i64,
    addresses: String,
}

/// Attempts that nothing came of within the time.
static ATTEMPTS: OutputTag<Alarm> = OutputTag::new("attempts");

#[derive(Parameters)]
struct Params {
    /// Logins to read, CSV with the columns user, time, address and ok
    input: String,
    /// Folder to write to
    output: String,
    /// Time in which all of it happens
    #[parameter(default = "1m")]
    within: Duration,
    /// How far rows may be out of order
    #[parameter(default = "5s")]
    disorder: Duration,
}

#[millrace::pipeline]
fn logins(flow: &Flow, params: Params) -> Result<()> {
    let logins: Stream<Rows<Login>> = flow.source("logins", Files::csv(&params.input));
    let guessed = Pattern::<Login>::begin("failures")
        .where_(|login| !login.ok)
        .times(3)
        .consecutive()
        .next("success")
        .where_(|login| login.ok)
        .within(params.within);
    let alarms = logins
        .watermarks(Watermarks::bounded(Login::FIELDS.time, params.disorder))
        .key_by(Login::FIELDS.user)
        .pattern(guessed)
        .timed_out(&ATTEMPTS, alarm)
        .select(alarm)
        .name("guessed")
        .uid("guessed");
    let attempts = alarms.side_output(&ATTEMPTS);
    attempts
        .filter(|alarm| alarm.failures == 3)
        .sink("attempts", Files::to_ndjson(format!("{}/attempts", params.output)));
    alarms.sink("alarms", Files::to_ndjson(format!("{}/alarms", params.output)));
    Ok(())
}

fn alarm(found: &millrace::pattern::Match<'_, '_, Login<'static>, String>) -> Alarm {
    let failures = found.rows("failures");
    let addresses = failures.map(|login| login.address).collect::<Vec<_>>();
    Alarm {
        user: found.key(),
        since: found.first("failures").expect("a match begins with one").time,
        failures: addresses.len() as i64,
        addresses: addresses.join(" "),
    }
}
