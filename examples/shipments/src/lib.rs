//! Joins orders with their parcels: each parcel that leaves within four hours of its order, and each order without one.

use millrace::prelude::*;

/// An order, as it is in the file.
#[derive(Record, Clone)]
struct Order {
    id: i64,
    time: Timestamp,
    customer: String,
}

/// A parcel that was handed to a carrier.
#[derive(Record, Clone)]
struct Parcel {
    order: i64,
    time: Timestamp,
    carrier: String,
}

/// An order with a parcel of it, or without any.
#[derive(Record, Clone)]
struct Delivery {
    order: i64,
    customer: String,
    ordered: Timestamp,
    shipped: Option<Timestamp>,
    carrier: Option<String>,
}

#[derive(Parameters)]
struct Params {
    /// Orders to read, CSV with the columns id, time and customer
    orders: String,
    /// Parcels to read, CSV with the columns order, time and carrier
    parcels: String,
    /// Folder to write to
    output: String,
    /// Time within which a parcel has to leave
    #[parameter(default = "4h")]
    within: Duration,
    /// How far rows of a file may be out of order
    #[parameter(default = "10m")]
    disorder: Duration,
}

#[millrace::pipeline]
fn shipments(flow: &Flow, params: Params) -> Result<()> {
    let orders: Stream<Rows<Order>> = flow.source("orders", Files::csv(&params.orders));
    let parcels: Stream<Rows<Parcel>> = flow.source("parcels", Files::csv(&params.parcels));
    let orders = orders.watermarks(Watermarks::bounded(Order::FIELDS.time, params.disorder));
    let parcels = parcels.watermarks(Watermarks::bounded(Parcel::FIELDS.time, params.disorder));
    orders
        .key_by(Order::FIELDS.id)
        .left_join(parcels.key_by(Parcel::FIELDS.order))
        .between(TimeBound::after(Duration::ZERO), TimeBound::after(params.within))
        .apply(|order, parcel| Delivery {
            order: order.id,
            customer: order.customer.clone(),
            ordered: order.time,
            shipped: parcel.map(|parcel| parcel.time),
            carrier: parcel.map(|parcel| parcel.carrier.clone()),
        })
        .name("deliveries")
        .uid("deliveries")
        .sink("deliveries", Files::to_ndjson(format!("{}/deliveries", params.output)));
    Ok(())
}
