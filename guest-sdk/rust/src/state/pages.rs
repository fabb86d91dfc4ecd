//! Storage by slot: pages of values, so that no growth copies what is there.
//!
//! Slots are small dense numbers given by the host. A page holds [`PAGE`] of them; pages are made up to the
//! largest slot seen and never move. A slot that nothing was put in holds what `create` makes.

#![expect(
    unsafe_code,
    reason = "a load of any byte of a value, whatever its type, to warm the cache"
)]

use std::mem::MaybeUninit;

use crate::position;

/// Storage up to this size stays in the second-level cache.
const CACHED_BYTES: usize = 1 << 20;

/// Slots to a page.
pub(crate) const PAGE: usize = 4096;

/// Values by slot.
#[derive(Debug)]
pub(crate) struct Pages<A> {
    pages: Vec<Box<[A; PAGE]>>,
    /// Bytes of pages made since they were last asked for.
    grown_bytes: i64,
}

impl<A> Pages<A> {
    pub(crate) fn new() -> Self {
        Pages {
            pages: Vec::new(),
            grown_bytes: 0,
        }
    }

    /// Makes pages for all these slots, so that [`Pages::at`] finds them.
    pub(crate) fn ensure(&mut self, slots: &[u32], create: impl FnMut() -> A) {
        if let Some(largest) = slots.iter().copied().reduce(u32::max) {
            self.ensure_slot(largest, create);
        }
    }

    /// Makes pages up to this slot.
    #[inline]
    pub(crate) fn ensure_slot(&mut self, slot: u32, create: impl FnMut() -> A) {
        if slot as usize / PAGE >= self.pages.len() {
            self.grow(slot as usize / PAGE + 1, create);
        }
    }

    #[cold]
    fn grow(&mut self, pages: usize, mut create: impl FnMut() -> A) {
        assert!(
            pages <= position::NO_SLOT as usize / PAGE,
            "this state belongs to a key, and a broadcast row has none"
        );
        while self.pages.len() < pages {
            let page: Vec<A> = (0..PAGE).map(|_| create()).collect();
            let page: Box<[A; PAGE]> = page.try_into().ok().expect("a page has PAGE values");
            self.pages.push(page);
            self.grown_bytes += (PAGE * size_of::<A>()) as i64;
        }
    }

    /// Brings the values of these slots, which have pages, into the cache.
    ///
    /// The loads of this pass depend on nothing, so the processor overlaps their misses; in the loop over the
    /// rows each would be waited for, one after the other, wherever user code branches on a value. Storage that
    /// fits the cache anyway is left alone.
    #[inline]
    pub(crate) fn warm(&self, slots: &[u32]) {
        if self.pages.len() * PAGE * size_of::<A>() <= CACHED_BYTES || size_of::<A>() == 0 {
            return;
        }
        for &slot in slots {
            if let Some(value) = self.get(slot) {
                let first = std::ptr::from_ref(value).cast::<MaybeUninit<u8>>();
                // SAFETY: `value` is a live reference to at least one byte, and `MaybeUninit<u8>` may be read
                // from any byte. Volatile only so that the load is not removed.
                let _ = unsafe { first.read_volatile() };
            }
        }
    }

    /// The value of a slot that has a page.
    #[inline(always)]
    pub(crate) fn at(&mut self, slot: u32) -> &mut A {
        &mut self.pages[slot as usize / PAGE][slot as usize % PAGE]
    }

    /// The value of a slot, if it has a page.
    #[inline(always)]
    pub(crate) fn get(&self, slot: u32) -> Option<&A> {
        let page = self.pages.get(slot as usize / PAGE)?;
        Some(&page[slot as usize % PAGE])
    }

    /// The value of a slot, if it has a page.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut A> {
        let page = self.pages.get_mut(slot as usize / PAGE)?;
        Some(&mut page[slot as usize % PAGE])
    }

    /// Two different slots that have pages: the first to change, the second to read.
    pub(crate) fn pair(&mut self, target: u32, source: u32) -> Option<(&mut A, &A)> {
        let split = |slot: u32| (slot as usize / PAGE, slot as usize % PAGE);
        let ((target_page, target), (source_page, source)) = (split(target), split(source));
        if target_page == source_page {
            let page = self.pages.get_mut(target_page)?;
            let [target, source] = page.get_disjoint_mut([target, source]).ok()?;
            return Some((target, source));
        }
        let [target_page, source_page] = self.pages.get_disjoint_mut([target_page, source_page]).ok()?;
        Some((&mut target_page[target], &source_page[source]))
    }

    /// Bytes of pages made since the last time this was asked.
    pub(crate) fn take_grown_bytes(&mut self) -> i64 {
        std::mem::take(&mut self.grown_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_made_up_to_the_largest_slot() {
        let mut pages = Pages::new();
        pages.ensure(&[3, 9000, 1], || 7);
        assert_eq!(pages.take_grown_bytes(), 3 * 4096 * 4);
        assert_eq!(*pages.at(9000), 7);
        *pages.at(9000) = 8;
        pages.ensure(&[12000], || 0);
        assert_eq!(
            (pages.get(9000), pages.get(12287), pages.get(12288)),
            (Some(&8), Some(&7), None)
        );
    }

    #[test]
    fn pairs_are_of_different_slots() {
        let mut pages = Pages::new();
        let mut next = 0;
        pages.ensure(&[5000], || {
            next += 1;
            next - 1
        });
        assert_eq!(pages.pair(1, 2), Some((&mut 1, &2)));
        assert_eq!(pages.pair(5000, 2), Some((&mut 5000, &2)));
        assert_eq!(pages.pair(2, 2), None);
        assert_eq!(pages.pair(2, 9000), None);
    }
}
