//! What there is of each key, by its slot, in pages.

use super::matcher::Key;

const PAGE: usize = 1024;

/// All keys of an operator.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pages: Vec<Vec<Key>>,
}

impl Keys {
    /// Makes room for a slot.
    pub(super) fn at(&mut self, slot: u32) -> &mut Key {
        let (page, place) = (slot as usize / PAGE, slot as usize % PAGE);
        while self.pages.len() <= page {
            let mut page = Vec::with_capacity(PAGE);
            page.resize_with(PAGE, Key::default);
            self.pages.push(page);
        }
        &mut self.pages[page][place]
    }

    /// What there is of a slot, if it was ever asked for.
    pub(super) fn get(&self, slot: u32) -> Option<&Key> {
        self.pages.get(slot as usize / PAGE)?.get(slot as usize % PAGE)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.pages.len() * PAGE * size_of::<Key>()
    }
}
