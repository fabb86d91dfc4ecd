//! Raises an alert when an account has a small payment and the next one, within a minute, is large.

use millrace::prelude::*;

/// A payment, as it is in the file. Amounts are in cents.
#[derive(Record)]
struct Transaction {
    account: i64,
    time: Timestamp,
    cents: i64,
}

/// What is suspicious: the large payment, and the small one before it.
#[derive(Record, Clone)]
struct Alert {
    account: i64,
    time: Timestamp,
    cents: i64,
    after: Timestamp,
    small_cents: i64,
}

#[derive(Parameters)]
struct Params {
    /// Transactions to read, CSV with the columns account, time and cents
    input: String,
    /// Folder to write to
    output: String,
    /// A payment below this many cents is small
    #[parameter(default = "100")]
    small: i64,
    /// A payment above this many cents is large
    #[parameter(default = "50000")]
    large: i64,
    /// Time within which the large one follows
    #[parameter(default = "1m")]
    within: Duration,
}

#[millrace::pipeline]
fn fraud(flow: &Flow, params: Params) -> Result<()> {
    let Params {
        small, large, within, ..
    } = params;
    let transactions: Stream<Rows<Transaction>> = flow.source("transactions", Files::csv(&params.input));
    transactions
        .watermarks(Watermarks::monotonic(Transaction::FIELDS.time))
        .key_by(Transaction::FIELDS.account)
        .process(move |setup| Detector {
            suspect: setup.value_state("suspect"),
            small,
            large,
            within,
        })
        .name("detect")
        .uid("detect")
        .sink("alerts", Files::to_ndjson(format!("{}/alerts", params.output)));
    Ok(())
}

/// The last payment of an account, if it was small and no more than a minute ago.
#[derive(Record, Clone)]
struct Suspect {
    time: Timestamp,
    cents: i64,
}

/// Watches the payments of each account.
struct Detector {
    suspect: ValueState<Suspect>,
    small: i64,
    large: i64,
    within: Duration,
}

impl KeyedProcess for Detector {
    type In = Transaction;
    type Key = i64;
    type Out = Alert;

    fn process(&mut self, row: Transaction, cx: &mut Context<'_, Self>) {
        if let Some(suspect) = self.suspect.take() {
            cx.delete_event_timer(suspect.time + self.within);
            // The timer fires when the watermark passes, which may be after this row: the time decides.
            if row.cents > self.large && row.time <= suspect.time + self.within {
                cx.push(Alert {
                    account: row.account,
                    time: row.time,
                    cents: row.cents,
                    after: suspect.time,
                    small_cents: suspect.cents,
                });
            }
        }
        if row.cents < self.small {
            cx.set_event_timer(row.time + self.within);
            self.suspect.set(Suspect {
                time: row.time,
                cents: row.cents,
            });
        }
    }

    /// Nothing followed in time. The state goes, so that it does not grow with the number of accounts.
    fn on_timer(&mut self, _timer: Timer<i64>, _cx: &mut Context<'_, Self>) {
        self.suspect.clear();
    }
}
