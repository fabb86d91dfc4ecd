//! Tags of side outputs.

use std::marker::PhantomData;

use crate::value::Record;

/// Names a side output and its type of rows.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Order { customer: i64, cents: i64 }
///
/// static REFUNDS: OutputTag<Order> = OutputTag::new("refunds");
///
/// fn split(orders: Stream<Rows<Order>>) {
///     let bought = orders.flat_map(|order: Order, out: &mut Out<'_, Order>| {
///         if order.cents < 0 {
///             out.side(&REFUNDS, order);
///         } else {
///             out.push(order);
///         }
///     });
///     bought.side_output(&REFUNDS).sink("refunds", Stdout::ndjson());
///     bought.sink("bought", Discard::new());
/// }
/// ```
pub struct OutputTag<T> {
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> OutputTag<T> {
    /// A tag. Tags with the same name are the same output.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// static LATE: OutputTag<(i64,)> = OutputTag::new("late");
    /// ```
    pub const fn new(name: &'static str) -> Self {
        OutputTag {
            name,
            record: PhantomData,
        }
    }

    /// Its name.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// assert_eq!(OutputTag::<(i64,)>::new("late").name(), "late");
    /// ```
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> std::fmt::Debug for OutputTag<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OutputTag").field(&self.name).finish()
    }
}
