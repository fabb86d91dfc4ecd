//! What is kept for each window of a key: the shape of all states of windows that run in the guest.

use super::Window;
use crate::state::Kept;
use crate::value::Owned;

/// Something that is kept for a window.
pub(crate) trait ForWindow: Sized + 'static {
    /// All windows of a key as they are stored: a list of structs that begin with `start` and `end`.
    type Stored: Owned;

    /// To be stored.
    fn store<'w>(windows: impl Iterator<Item = &'w (Window, Self)>) -> Self::Stored;

    /// As it was stored.
    fn restore(stored: Self::Stored) -> Vec<(Window, Self)>;

    /// Estimate of the bytes that it has outside of itself.
    fn heap_bytes(&self) -> usize;
}

/// What is kept for each window of a key. Most keys have one at a time, which is found without following a pointer.
#[derive(Debug)]
pub(crate) struct ByWindow<A> {
    /// The least.
    first: Option<(Window, A)>,
    /// All others, in order; none without a first.
    others: Vec<(Window, A)>,
    /// Of all windows, outside of what is kept.
    heap_bytes: usize,
}

impl<A: ForWindow> ByWindow<A> {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn find(&self, window: Window) -> Result<usize, usize> {
        self.others.binary_search_by_key(&window, |(window, _)| *window)
    }

    pub(crate) fn get(&self, window: Window) -> Option<&A> {
        match &self.first {
            Some((first, kept)) if *first == window => Some(kept),
            Some(_) => self.others.get(self.find(window).ok()?).map(|(_, kept)| kept),
            None => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Window, &A)> {
        self.entries().map(|(window, kept)| (*window, kept))
    }

    fn entries(&self) -> impl Iterator<Item = &(Window, A)> {
        self.first.iter().chain(&self.others)
    }

    /// Changes what is kept for a window, beginning with what `create` makes; the function learns whether it is new.
    #[inline]
    pub(crate) fn change<R>(
        &mut self,
        window: Window,
        create: impl FnOnce() -> A,
        change: impl FnOnce(&mut A, bool) -> R,
    ) -> R {
        let is_new = match &self.first {
            Some((first, _)) if *first == window => false,
            _ => self.insert(window, create),
        };
        let kept = match &mut self.first {
            Some((first, kept)) if *first == window => kept,
            _ => {
                let found = self.others.binary_search_by_key(&window, |(window, _)| *window);
                &mut self.others[found.expect("it was inserted")].1
            }
        };
        let before = if is_new { 0 } else { kept.heap_bytes() };
        let result = change(kept, is_new);
        self.heap_bytes = self.heap_bytes - before + kept.heap_bytes();
        result
    }

    /// Makes an entry for a window that is not the first; false: it is there.
    fn insert(&mut self, window: Window, create: impl FnOnce() -> A) -> bool {
        match &mut self.first {
            None => self.first = Some((window, create())),
            Some(first) if window < first.0 => {
                let first = std::mem::replace(first, (window, create()));
                self.others.insert(0, first);
            }
            Some(_) => match self.find(window) {
                Ok(_) => return false,
                Err(index) => self.others.insert(index, (window, create())),
            },
        }
        true
    }

    pub(crate) fn remove(&mut self, window: Window) -> Option<A> {
        let is_first = self.first.as_ref().is_some_and(|(first, _)| *first == window);
        let kept = if is_first {
            let next = (!self.others.is_empty()).then(|| self.others.remove(0));
            std::mem::replace(&mut self.first, next)?.1
        } else {
            self.others.remove(self.find(window).ok()?).1
        };
        self.heap_bytes -= kept.heap_bytes();
        Some(kept)
    }
}

impl<A: ForWindow> Kept for ByWindow<A> {
    type Stored = A::Stored;

    fn create() -> Self {
        ByWindow {
            first: None,
            others: Vec::new(),
            heap_bytes: 0,
        }
    }

    fn to_stored(&self) -> Option<A::Stored> {
        (!self.is_empty()).then(|| A::store(self.entries()))
    }

    fn from_stored(stored: Option<A::Stored>) -> Self {
        let mut windows = stored.map_or(Vec::new(), A::restore);
        // Savepoints may have been edited.
        windows.sort_by_key(|(window, _)| *window);
        let heap_bytes = windows.iter().map(|(_, kept)| kept.heap_bytes()).sum();
        let others = windows.split_off(windows.len().min(1));
        ByWindow {
            first: windows.pop(),
            others,
            heap_bytes,
        }
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes + self.others.len() * size_of::<(Window, A)>()
    }
}
