//! One source after another.

use std::marker::PhantomData;

use super::options::reject_option;
use super::{Description, Reject, Source};
use crate::value::Record;

/// Reads one source to its end and then another: history from files, say, and then what is live.
///
/// No row of the second source comes before the last one of the first, in any subtask, and watermarks do not go back. The
/// first source must end. Where it stands, the switch included, is in the checkpoints.
///
/// Rows are not compared: what both sources have is read twice. Let the second begin where the first ends.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Click { user: String, at: Timestamp }
///
/// fn clicks(flow: &Flow) {
///     let history = Files::parquet::<Click>("clicks/2024/*.parquet");
///     let live = Files::ndjson::<Click>("/var/log/clicks/*.ndjson").follow();
///     flow.source("clicks", Hybrid::of(history).then(live)).sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug)]
pub struct Hybrid<T> {
    first: Description,
    then: Option<Description>,
    on_reject: Reject,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Hybrid<T> {
    /// Begins with this source. Its policy for rows that cannot be read is that of the whole.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Hybrid::of(Files::text::<Row>("old.txt")).then(Stdin::text());
    /// ```
    pub fn of(first: impl Source<Record = T>) -> Self {
        let first = first.into_description();
        Hybrid {
            on_reject: first.on_reject.clone(),
            first,
            then: None,
            record: PhantomData,
        }
    }

    /// Goes on with this one. Called again, with one more behind it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Hybrid::of(Files::text::<Row>("older.txt")).then(Files::text("old.txt")).then(Stdin::text());
    /// ```
    pub fn then(self, next: impl Source<Record = T>) -> Self {
        let on_reject = self.on_reject.clone();
        Hybrid {
            first: self.into_description(),
            then: Some(next.into_description()),
            on_reject,
            record: PhantomData,
        }
    }

    reject_option!("Hybrid::of(Files::text::<Row>(\"old.txt\")).then(Stdin::text())");
}

impl<T: Record> Source for Hybrid<T> {
    type Record = T;

    fn into_description(self) -> Description {
        let Some(then) = self.then else {
            let on_reject = self.on_reject;
            return Description {
                on_reject,
                ..self.first
            };
        };
        let mut options = Vec::new();
        for (prefix, part) in [("first", self.first), ("then", then)] {
            options.push((format!("{prefix}.kind"), part.kind));
            let named = |(name, value)| (format!("{prefix}.{name}"), value);
            options.extend(part.options.into_iter().map(named));
        }
        Description {
            kind: "hybrid".to_owned(),
            options,
            on_reject: self.on_reject,
        }
    }
}
