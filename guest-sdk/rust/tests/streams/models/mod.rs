//! Constructs of the API against naive models, over random streams.
//!
//! A model says what is to come of a row, of a watermark and of the clock, as the documentation has it and without the
//! construct's own code: it keeps everything and looks at all of it each time. `drive` gives job and model the same, and
//! compares them step by step.

mod all_rows;
mod connected;
mod count_windows;
mod drive;
mod own_windows;
mod rolling;
mod temporal;
mod timers;
mod watermarks;
