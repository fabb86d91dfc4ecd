//! The queries of the Nexmark benchmark, one pipeline with a parameter that picks one.
//!
//! What each of them asks, and how it is answered here, is in the README; a file has those that are alike. `verify.py`
//! computes the same in SQL.

mod expanded;
mod highest_bid;
mod hot_items;
mod house;
mod last_bid;
mod local_items;
mod new_users;
mod periods;
mod stateless;
mod winning;

use house::House;
use millrace::prelude::*;

#[derive(Parameters)]
pub struct Params {
    /// q0 to q8, q11, q12, q18 or q20; persons, auctions or bids: the table itself; none: nothing but whole tables
    query: String,
    /// Number of events
    #[parameter(default = "1000000")]
    events: u64,
    /// Events per second of event time
    #[parameter(default = "10000")]
    event_rate: u64,
    /// Other values
    #[parameter(default = "0")]
    seed: u64,
    /// Folder for Parquet files; without it results are counted and dropped
    output: Option<String>,
    /// Make all tables with all their columns, whatever the query reads
    #[parameter(default = "false")]
    whole: bool,
}

#[millrace::pipeline]
fn nexmark(flow: &Flow, params: Params) -> Result<()> {
    flow.name(&format!("nexmark {}", params.query));
    let house = House::new(flow, &params);
    match params.query.as_str() {
        "q0" => stateless::q0(&house),
        "q1" => stateless::q1(&house),
        "q2" => stateless::q2(&house),
        "q3" => local_items::q3(&house),
        "q4" => winning::q4(&house),
        "q5" => hot_items::q5(&house),
        "q6" => winning::q6(&house),
        "q7" => highest_bid::q7(&house),
        "q8" => new_users::q8(&house),
        "q11" => periods::q11(&house),
        "q12" => periods::q12(&house),
        "q18" => last_bid::q18(&house),
        "q20" => expanded::q20(&house),
        "persons" => house.copy_persons(),
        "auctions" => house.copy_auctions(),
        "bids" => house.copy_bids(),
        "none" => {}
        other => return Err(format!("there is no query `{other}`").into()),
    }
    house.read_others();
    Ok(())
}
