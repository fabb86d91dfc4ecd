//! Calls whose outputs can be taken back, and why they failed.

use millrace_core::function::{CallFault, TriedFunction};

use crate::chain::{CallOutput, GuestChain};
use crate::instance::CallFailure;

/// How far an output had come.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    blocks: usize,
    emitted: Vec<u64>,
    rejections: usize,
    live_bytes: i64,
}

impl CallOutput {
    fn mark(&self, mark: &mut Mark) {
        mark.blocks = self.blocks.len();
        mark.emitted.clone_from(&self.emitted);
        mark.rejections = self.rejections.len();
        mark.live_bytes = self.live_bytes;
    }

    fn undo(&mut self, mark: &Mark) {
        self.blocks.truncate(mark.blocks);
        self.emitted.clone_from(&mark.emitted);
        self.rejections.truncate(mark.rejections);
        self.live_bytes = mark.live_bytes;
    }
}

impl GuestChain {
    /// Remembers a failure that an entry of the call may be to blame for.
    pub(crate) fn note_fault(&mut self, failure: &CallFailure) {
        self.fault = failure.by_entry.then(|| CallFault {
            operator: failure.operator,
            cause: format!("{}: {}", failure.code, failure.message),
        });
    }
}

impl TriedFunction for GuestChain {
    fn mark(&mut self) {
        self.output.mark(&mut self.mark);
    }

    fn undo(&mut self) {
        self.output.undo(&self.mark);
    }

    fn take_fault(&mut self) -> Option<CallFault> {
        self.fault.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rejection;

    #[test]
    fn what_failed_calls_put_out_is_taken_back() {
        let rejection = |operator| Rejection {
            operator,
            row: None,
            cause: "c".into(),
        };
        let mut output = CallOutput {
            emitted: vec![3, 4],
            rejections: vec![rejection(1)],
            live_bytes: 7,
            ..CallOutput::default()
        };
        let mut mark = Mark::default();
        output.mark(&mut mark);
        output.emitted[1] += 5;
        output.rejections.push(rejection(2));
        output.live_bytes -= 100;
        output.undo(&mark);
        assert_eq!((output.emitted.as_slice(), output.live_bytes), ([3, 4].as_slice(), 7));
        assert_eq!(output.rejections, [rejection(1)]);
    }
}
