//! What is kept for each window of a key: the shape of all states of windows that run in the guest.

use super::Window;
use crate::state::Kept;
use crate::value::Owned;

/// Something that is kept for a window.
pub(crate) trait ForWindow: Sized + 'static {
    /// All windows of a key as they are stored: a list of structs that begin with `start` and `end`.
    type Stored: Owned;

    /// To be stored.
    fn store(windows: &[(Window, Self)]) -> Self::Stored;

    /// As it was stored.
    fn restore(stored: Self::Stored) -> Vec<(Window, Self)>;

    /// Estimate of the bytes that it has outside of itself.
    fn heap_bytes(&self) -> usize;
}

/// What is kept for each window of a key, in the order of windows.
#[derive(Debug)]
pub(crate) struct ByWindow<A> {
    windows: Vec<(Window, A)>,
    /// Of all windows, outside of what is kept.
    heap_bytes: usize,
}

impl<A: ForWindow> ByWindow<A> {
    fn find(&self, window: Window) -> Result<usize, usize> {
        self.windows.binary_search_by_key(&window, |(window, _)| *window)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    pub(crate) fn get(&self, window: Window) -> Option<&A> {
        let index = self.find(window).ok()?;
        Some(&self.windows[index].1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Window, &A)> {
        self.windows.iter().map(|(window, kept)| (*window, kept))
    }

    /// Changes what is kept for a window, beginning with what `create` makes; the function learns whether it is new.
    pub(crate) fn change<R>(
        &mut self,
        window: Window,
        create: impl FnOnce() -> A,
        change: impl FnOnce(&mut A, bool) -> R,
    ) -> R {
        let (index, is_new) = match self.find(window) {
            Ok(index) => (index, false),
            Err(index) => {
                self.windows.insert(index, (window, create()));
                (index, true)
            }
        };
        let kept = &mut self.windows[index].1;
        let before = if is_new { 0 } else { kept.heap_bytes() };
        let result = change(kept, is_new);
        self.heap_bytes = self.heap_bytes - before + kept.heap_bytes();
        result
    }

    pub(crate) fn remove(&mut self, window: Window) -> Option<A> {
        let (_, kept) = self.windows.remove(self.find(window).ok()?);
        self.heap_bytes -= kept.heap_bytes();
        Some(kept)
    }
}

impl<A: ForWindow> Kept for ByWindow<A> {
    type Stored = A::Stored;

    fn create() -> Self {
        ByWindow {
            windows: Vec::new(),
            heap_bytes: 0,
        }
    }

    fn to_stored(&self) -> Option<A::Stored> {
        (!self.is_empty()).then(|| A::store(&self.windows))
    }

    fn from_stored(stored: Option<A::Stored>) -> Self {
        let mut windows = stored.map_or(Vec::new(), A::restore);
        // Savepoints may have been edited.
        windows.sort_by_key(|(window, _)| *window);
        let heap_bytes = windows.iter().map(|(_, kept)| kept.heap_bytes()).sum();
        ByWindow { windows, heap_bytes }
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes + self.windows.len() * size_of::<(Window, A)>()
    }
}
