//! Rows of a key that wait, in the order of time. Most keys have one, which lies in the key itself.

use std::ops::Deref;

/// Numbers of events.
#[derive(Debug, Default)]
pub(super) struct Pending {
    first: Option<u32>,
    more: Vec<u32>,
}

impl Pending {
    pub(super) fn first(&self) -> Option<u32> {
        self.first
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.first.into_iter().chain(self.more.iter().copied())
    }

    /// Adds an event behind all that are not later, as `is_later` says.
    pub(super) fn add(&mut self, event: u32, is_later: impl Fn(u32) -> bool) {
        match self.first {
            None => self.first = Some(event),
            Some(first) if is_later(first) => {
                self.more.insert(0, first);
                self.first = Some(event);
            }
            Some(_) => {
                let in_order = self.more.last().is_none_or(|&last| !is_later(last));
                let place = match in_order {
                    true => self.more.len(),
                    false => self.more.deref().partition_point(|&other| !is_later(other)),
                };
                self.more.insert(place, event);
            }
        }
    }

    /// Takes those from the first on that are due.
    pub(super) fn take_due(&mut self, is_due: impl Fn(u32) -> bool, due: &mut Vec<u32>) {
        let Some(first) = self.first.filter(|&first| is_due(first)) else {
            return;
        };
        due.push(first);
        if self.more.is_empty() {
            self.first = None;
            return;
        }
        let count = self.more.partition_point(|&other| is_due(other));
        due.extend(self.more.drain(..count));
        self.first = (!self.more.is_empty()).then(|| self.more.remove(0));
    }
}
