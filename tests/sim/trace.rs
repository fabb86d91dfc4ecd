//! What happened in a run: a hash of all of it, and on demand the last lines.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// Lines that are kept of a run that is run again because it failed.
const TAIL_LINES: usize = 60;

/// Hashes every line (FNV-1a) and keeps the last ones if asked to.
pub(crate) struct Trace {
    hash: u64,
    tail: Option<VecDeque<String>>,
}

impl Trace {
    pub(crate) fn new(keep_tail: bool) -> Self {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            tail: keep_tail.then(VecDeque::new),
        }
    }

    pub(crate) fn note(&mut self, line: fmt::Arguments<'_>) {
        self.write_fmt(line).expect("hashing does not fail");
        self.write_str("\n").expect("hashing does not fail");
        if let Some(tail) = &mut self.tail {
            tail.push_back(line.to_string());
            if tail.len() > TAIL_LINES {
                tail.pop_front();
            }
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn tail(&self) -> String {
        let lines = self.tail.iter().flatten();
        lines.map(|line| format!("  {line}\n")).collect()
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
