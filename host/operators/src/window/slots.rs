//! Slots of accumulators: one dense number space per operator.

use millrace_core::function::Slot;

/// Gives out slots; those given back last come first.
#[derive(Debug, Default)]
pub(super) struct SlotAllocator {
    free: Vec<Slot>,
    next: Slot,
}

impl SlotAllocator {
    #[inline]
    pub(super) fn allocate(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// The slot that [`allocate`](Self::allocate) would give.
    pub(super) fn next(&self) -> Slot {
        self.free.last().copied().unwrap_or(self.next)
    }

    /// Takes back slots under which the guest holds nothing. The first of them comes out first again.
    pub(super) fn release(&mut self, slots: &[Slot]) {
        self.free.extend(slots.iter().rev());
    }

    /// Most slots that were in use at a time.
    pub(super) fn used_max(&self) -> usize {
        self.next as usize
    }

    /// All slots ever given are below this.
    pub(super) fn bound(&self) -> Slot {
        self.next
    }

    pub(super) fn used(&self) -> usize {
        self.next as usize - self.free.len()
    }
}
