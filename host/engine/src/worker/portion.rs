//! How much a subtask takes in one turn.
//!
//! A slot reads its own part of a source between the turns of the tasks behind it. If these took all that waits for
//! them, a slot that others send much to would hardly read, fall behind, and be sent all the more: windows then wait
//! for the watermark of one source and hold what all others have sent meanwhile. A block of each channel a turn keeps
//! readers of one source abreast, up to what the queues between them hold. Without event time nothing waits for the
//! slowest, and keeping abreast would only make the fastest wait.

/// What is left of a turn.
#[derive(Debug)]
pub(crate) struct Portion {
    elements: usize,
    blocks: usize,
}

impl Portion {
    /// So many elements at most. `abreast`: of blocks one for each of so many channels.
    pub(crate) fn new(elements: usize, abreast: Option<usize>) -> Self {
        Portion {
            elements,
            blocks: abreast.unwrap_or(elements),
        }
    }

    /// Whether anything more may be taken.
    pub(crate) fn is_left(&self) -> bool {
        self.elements > 0 && self.blocks > 0
    }

    /// An element was taken, or something done that takes as long.
    pub(crate) fn take(&mut self) {
        self.elements -= 1;
    }

    /// It was a block, or the last of one.
    pub(crate) fn take_block(&mut self) {
        self.blocks -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements and blocks that are taken of what waits: `true` stands for a block.
    fn taken(mut portion: Portion, waiting: impl IntoIterator<Item = bool>) -> (usize, usize) {
        let (mut elements, mut blocks) = (0, 0);
        for is_block in waiting {
            if !portion.is_left() {
                break;
            }
            portion.take();
            elements += 1;
            if is_block {
                portion.take_block();
                blocks += 1;
            }
        }
        (elements, blocks)
    }

    #[test]
    fn a_turn_is_a_block_of_each_channel() {
        assert_eq!(taken(Portion::new(16, Some(2)), [true; 20]), (2, 2));
        let with_watermarks = [true, false, false, true, false];
        assert_eq!(taken(Portion::new(16, Some(2)), with_watermarks), (4, 2));
        assert_eq!(taken(Portion::new(16, Some(1)), [false; 20]), (16, 0));
        assert_eq!(taken(Portion::new(16, Some(64)), [true; 20]), (16, 16));
        assert_eq!(taken(Portion::new(16, None), [true; 20]), (16, 16));
    }
}
