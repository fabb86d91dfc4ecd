//! Partial matches of a key in their place: most rows change few of them, if any.

use smallvec::SmallVec;

use crate::Partial;

/// Partial matches that lie beside what else is known of their key.
const PARTIALS_INLINE: usize = 3;

/// The partial matches of a key.
pub(crate) type Partials = SmallVec<[Partial; PARTIALS_INLINE]>;

/// What becomes of the partial matches of a key, written over those that were gone through already. Most of them stay as they
/// are, or become one other: so nothing is moved.
#[derive(Debug, Default)]
pub(crate) struct After {
    /// Partial matches that the key had,
    count: usize,
    /// those that are gone through,
    gone: usize,
    /// and those that have been written.
    kept: usize,
    /// Those for which there was no place yet, behind them.
    more: Vec<Partial>,
}

impl After {
    pub(crate) fn begin(&mut self, before: &[Partial]) {
        self.count = before.len();
        self.gone = 0;
        self.kept = 0;
    }

    /// The next one that there was.
    #[inline]
    pub(crate) fn next(&mut self, before: &[Partial]) -> Option<Partial> {
        let partial = (self.gone < self.count).then(|| before[self.gone])?;
        self.gone += 1;
        Some(partial)
    }

    /// The one that was gone through last stays as it is.
    #[inline]
    pub(crate) fn stay(&mut self, partials: &mut Partials, partial: &Partial) {
        match self.kept + 1 == self.gone && self.more.is_empty() {
            true => self.kept += 1,
            false => self.put(partials, *partial),
        }
    }

    /// The next one that there is.
    #[inline]
    pub(crate) fn put(&mut self, partials: &mut Partials, partial: Partial) {
        if !self.more.is_empty() || (self.kept == self.gone && self.gone < self.count) {
            self.more.push(partial);
            return;
        }
        match partials.get_mut(self.kept) {
            Some(place) => *place = partial,
            None => partials.push(partial),
        }
        self.kept += 1;
    }

    /// There are no others.
    #[inline]
    pub(crate) fn end(&mut self, partials: &mut Partials) {
        partials.truncate(self.kept);
        if !self.more.is_empty() {
            partials.extend_from_slice(&self.more);
            self.more.clear();
        }
        // Back beside its key, when it is not about to leave again.
        if partials.spilled() && partials.len() < PARTIALS_INLINE {
            partials.shrink_to_fit();
        }
    }
}
