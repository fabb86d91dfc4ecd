//! The allocator of a pipeline: the one of the standard library, which tells the host where memory ran out.
//!
//! A failed allocation aborts without a panic, so nobody would learn which function and which row asked for
//! the memory. Here the host is told first; an allocation that succeeds costs one comparison more.
#![allow(unsafe_code, reason = "an allocator is unsafe by nature")]

use std::alloc::{GlobalAlloc, Layout, System};

use super::host;
use crate::position;

/// See the module's documentation.
struct Reporting;

#[global_allocator]
static ALLOCATOR: Reporting = Reporting;

#[cold]
fn report() {
    let (operator, entry) = position::current();
    host::panicked(operator, entry, "out of memory");
}

#[inline(always)]
fn checked(memory: *mut u8) -> *mut u8 {
    if memory.is_null() {
        report();
    }
    memory
}

// SAFETY: every call is handed to the system's allocator as it is, and its answer handed back; the report in
// between allocates nothing.
unsafe impl GlobalAlloc for Reporting {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        checked(unsafe { System.alloc(layout) })
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        checked(unsafe { System.alloc_zeroed(layout) })
    }

    #[inline(always)]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`, which is the same.
        checked(unsafe { System.realloc(memory, layout, size) })
    }

    #[inline(always)]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}
