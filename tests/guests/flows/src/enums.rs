//! Enums read from files and written to them.

use millrace::prelude::*;

use super::Params;

#[derive(Record, Clone, Copy, Debug, PartialEq)]
enum Status {
    Pending,
    #[record(rename = "in full")]
    Paid,
    Lost,
}

#[derive(Record, Clone, Debug, PartialEq)]
enum Payment {
    Cash,
    Card { number: String, status: Status },
    Transfer(i64),
}

#[derive(Record, Clone, Debug)]
struct Order {
    id: i64,
    status: Status,
    before: Option<Status>,
    payments: Vec<Payment>,
}

#[derive(Record, Clone, Debug)]
struct Short {
    id: i64,
    status: Status,
    before: Option<Status>,
}

/// Orders from `input`, whose format is `structure`; in every format to folders of `output`. A lost order is refused.
pub(crate) fn build(flow: &Flow, params: &Params) {
    if params.structure == "csv" {
        let rows = flow.source(
            "short",
            Files::csv::<Short>(&params.input).on_reject(Reject::dead_letter(&params.letters)),
        );
        rows.sink("out", Files::to_ndjson(format!("{}/ndjson", params.output)));
        return;
    }
    let source = match params.structure.as_str() {
        "parquet" => Files::parquet::<Order>(&params.input),
        _ => Files::ndjson::<Order>(&params.input),
    };
    let orders = flow
        .source("orders", source.on_reject(Reject::dead_letter(&params.letters)))
        .try_map(|order: Order| match order.status {
            Status::Lost => Err("it is lost"),
            Status::Pending | Status::Paid => Ok(order),
        })
        .on_reject(Reject::dead_letter(&params.letters))
        .share();
    let folder = |name: &str| format!("{}/{name}", params.output);
    orders.clone().sink("lines", Files::to_ndjson(folder("ndjson")));
    orders.clone().sink("columns", Files::to_parquet(folder("parquet")));
    let short = orders.map(|order: Order| Short {
        id: order.id,
        status: order.status,
        before: order.before,
    });
    short.sink("short", Files::to_csv(folder("csv")));
}
