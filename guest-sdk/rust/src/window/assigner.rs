//! How rows fall into windows.

use std::time::Duration;

use crate::bindings::dataflow as wit;
use crate::time::millis;

/// How rows fall into windows: what [`Tumbling`], [`Sliding`] and [`Session`] become.
#[derive(Debug, Clone)]
pub struct Assigner {
    pub(crate) assigner: wit::WindowAssigner,
    /// What is wrong with it.
    pub(crate) error: Option<String>,
}

/// Windows of one length, one after the other: each row is in one.
///
/// ```
/// # use millrace::prelude::*;
/// // Days that begin at six in the morning, UTC.
/// let days = Tumbling::of(Duration::from_secs(24 * 3600)).offset(Duration::from_secs(6 * 3600));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Tumbling {
    size: Duration,
    offset: Duration,
}

impl Tumbling {
    /// Windows of that length, counted from 1970-01-01 00:00 UTC.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let hours = Tumbling::of(Duration::from_secs(3600));
    /// ```
    pub fn of(size: Duration) -> Self {
        Tumbling {
            size,
            offset: Duration::ZERO,
        }
    }

    /// Windows that begin that much later.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let from_half_past = Tumbling::of(Duration::from_secs(3600)).offset(Duration::from_secs(1800));
    /// ```
    pub fn offset(self, offset: Duration) -> Self {
        Tumbling { offset, ..self }
    }
}

/// Windows of one length, a new one at each slide: each row is in several.
///
/// ```
/// # use millrace::prelude::*;
/// // The last hour, every minute.
/// let hours = Sliding::of(Duration::from_secs(3600), Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Sliding {
    size: Duration,
    slide: Duration,
    offset: Duration,
}

impl Sliding {
    /// Windows of length `size`, one every `slide`, counted from 1970-01-01 00:00 UTC.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let hours = Sliding::of(Duration::from_secs(3600), Duration::from_secs(60));
    /// ```
    pub fn of(size: Duration, slide: Duration) -> Self {
        Sliding {
            size,
            slide,
            offset: Duration::ZERO,
        }
    }

    /// Windows that begin that much later.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let hours = Sliding::of(Duration::from_secs(3600), Duration::from_secs(60)).offset(Duration::from_secs(30));
    /// ```
    pub fn offset(self, offset: Duration) -> Self {
        Sliding { offset, ..self }
    }
}

/// Windows that last as long as a key's rows come without a gap.
///
/// ```
/// # use millrace::prelude::*;
/// // Visits: a user who does nothing for half an hour has left.
/// let visits = Session::gap(Duration::from_secs(1800));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Session {
    gap: Duration,
}

impl Session {
    /// Rows up to that far apart are in one window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let visits = Session::gap(Duration::from_secs(1800));
    /// ```
    pub fn gap(gap: Duration) -> Self {
        Session { gap }
    }
}

/// The first of these that is shorter than a millisecond.
fn too_short(durations: &[(&str, Duration)]) -> Option<String> {
    let (what, duration) = durations.iter().find(|(_, duration)| duration.as_millis() == 0)?;
    Some(format!("a window's {what} is at least 1 ms, not {duration:?}"))
}

impl From<Tumbling> for Assigner {
    fn from(tumbling: Tumbling) -> Self {
        Assigner {
            assigner: wit::WindowAssigner::Tumbling(wit::TumblingWindow {
                size_ms: millis(tumbling.size),
                offset_ms: millis(tumbling.offset) as i64,
            }),
            error: too_short(&[("size", tumbling.size)]),
        }
    }
}

impl From<Sliding> for Assigner {
    fn from(sliding: Sliding) -> Self {
        let longer = || {
            let Sliding { size, slide, .. } = sliding;
            (slide > size).then(|| format!("a window of {size:?} that slides by {slide:?} would miss rows in between"))
        };
        Assigner {
            assigner: wit::WindowAssigner::Sliding(wit::SlidingWindow {
                size_ms: millis(sliding.size),
                slide_ms: millis(sliding.slide),
                offset_ms: millis(sliding.offset) as i64,
            }),
            error: too_short(&[("size", sliding.size), ("slide", sliding.slide)]).or_else(longer),
        }
    }
}

impl From<Session> for Assigner {
    fn from(session: Session) -> Self {
        Assigner {
            assigner: wit::WindowAssigner::Session(wit::SessionWindow {
                gap_ms: millis(session.gap),
            }),
            error: too_short(&[("gap", session.gap)]),
        }
    }
}
