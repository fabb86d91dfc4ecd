//! Has the allocator keep what blocks leave.
//!
//! A block of texts is some hundred KiB, and as much again on its way into the guest and out. The allocator of glibc begins
//! by mapping pieces of that size from the kernel, and by giving back what is free at the end of a heap: so each block pays
//! for pages that are mapped, cleared and unmapped, a third of the time of a pipeline that passes texts on. It learns from
//! what is freed: of a piece of this size that no more are to be mapped, and that twice as much may stay free in a heap.
//! Elsewhere this does nothing; a piece that is never touched costs nothing either.

use std::hint::black_box;

/// The most from which glibc learns is 32 MiB, with its own header.
const PIECE_BYTES: usize = 31 << 20;

/// Once for a process is enough, and more often does no harm.
pub(crate) fn keep_blocks() {
    drop(black_box(Vec::<u8>::with_capacity(PIECE_BYTES)));
}
