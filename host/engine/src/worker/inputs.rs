//! What waits in front of a subtask: elements of the same slot in an inbox, those of other slots in their queues.

use std::collections::VecDeque;

use millrace_core::block::Element;
use millrace_core::checkpoint::CheckpointId;

use super::wiring::{Channel, Origin};

/// The input channels of a subtask.
pub(crate) struct Inputs {
    channels: Vec<Channel>,
    /// Elements from the same slot, of a restored checkpoint, and of blocks taken in part: they come before what
    /// waits in the queue of the same channel.
    inbox: VecDeque<(usize, Element)>,
    /// How many of them are of each channel.
    waiting: Vec<usize>,
    next: usize,
}

/// What was found in a channel, looking for a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The barrier of this checkpoint: the one looked for or a newer one.
    Barrier(CheckpointId),
    /// The end before any such barrier.
    End,
}

impl Inputs {
    pub(crate) fn new(channels: Vec<Channel>) -> Self {
        Inputs {
            waiting: vec![0; channels.len()],
            channels,
            inbox: VecDeque::new(),
            next: 0,
        }
    }

    pub(crate) fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// An element from the same slot, or one that a checkpoint held.
    pub(crate) fn deliver(&mut self, channel: usize, element: Element) {
        self.inbox.push_back((channel, element));
        self.waiting[channel] += 1;
    }

    /// The rest of an element that was just taken: the next one of all that is taken.
    pub(crate) fn put_back(&mut self, channel: usize, element: Element) {
        self.inbox.push_front((channel, element));
        self.waiting[channel] += 1;
    }

    /// Elements of a channel that wait in the inbox. Each channel has a bound of its own: one that waits behind its
    /// barrier must not hold up those whose barriers it waits for.
    pub(crate) fn waiting(&self, channel: usize) -> usize {
        self.waiting[channel]
    }

    /// Whether there is an element on a channel that is not blocked.
    pub(crate) fn has_element(&self, is_blocked: impl Fn(usize) -> bool) -> bool {
        let has_queued = |(index, channel): (usize, &Channel)| match &channel.origin {
            Origin::Remote(receiver) => receiver.has_element() && !is_blocked(index),
            Origin::Local => false,
        };
        self.inbox.iter().any(|(channel, _)| !is_blocked(*channel)) || self.channels.iter().enumerate().any(has_queued)
    }

    /// The next element of a channel that is not blocked: those of the inbox first, then the queues in turn.
    pub(crate) fn next_element(&mut self, is_blocked: impl Fn(usize) -> bool) -> Option<(usize, Element)> {
        let waiting = self.inbox.iter().position(|(channel, _)| !is_blocked(*channel));
        if let Some((channel, element)) = waiting.and_then(|waiting| self.inbox.remove(waiting)) {
            self.waiting[channel] -= 1;
            return Some((channel, element));
        }
        for turn in 0..self.channels.len() {
            let index = (self.next + turn) % self.channels.len();
            if let Origin::Remote(receiver) = &self.channels[index].origin
                && !is_blocked(index)
                && let Some(element) = receiver.pop()
            {
                self.next = index + 1;
                return Some((index, element));
            }
        }
        None
    }

    /// Whether the barrier of a checkpoint, or what stands for it, waits in a channel.
    pub(crate) fn has_sight(&self, channel: usize, id: CheckpointId) -> bool {
        self.sight(channel, id, &mut Vec::new()).is_some()
    }

    /// Looks for the barrier of a checkpoint in what waits in a channel. If it is there it is taken out, with all older
    /// ones; with it comes all that is ahead of it and stays.
    pub(crate) fn overtake(&mut self, channel: usize, id: CheckpointId) -> Option<(Sight, Vec<Element>)> {
        let mut ahead = Vec::new();
        let sight = self.sight(channel, id, &mut ahead)?;
        if sight == Sight::Barrier(id) {
            let stays = |element: &Element| !matches!(element, Element::Barrier(other) if *other <= id);
            self.inbox.retain(|(of, element)| *of != channel || stays(element));
            let waiting = self.inbox.iter().filter(|(of, _)| *of == channel);
            self.waiting[channel] = waiting.count();
            if let Origin::Remote(receiver) = &self.channels[channel].origin {
                receiver.edit(|queue| queue.retain(stays));
            }
        }
        Some((sight, ahead))
    }

    fn sight(&self, channel: usize, id: CheckpointId, ahead: &mut Vec<Element>) -> Option<Sight> {
        let inbox = self.inbox.iter().filter(|(of, _)| *of == channel);
        let sight = look(inbox.map(|(_, element)| element), id, ahead);
        match &self.channels[channel].origin {
            Origin::Remote(receiver) if sight.is_none() => receiver.peek(|queue| look(queue, id, ahead)),
            Origin::Remote(_) | Origin::Local => sight,
        }
    }
}

/// Goes through what waits, up to a barrier or the end.
fn look<'a>(
    waiting: impl IntoIterator<Item = &'a Element>,
    id: CheckpointId,
    ahead: &mut Vec<Element>,
) -> Option<Sight> {
    for element in waiting {
        match element {
            Element::Barrier(other) if *other >= id => return Some(Sight::Barrier(*other)),
            Element::End => return Some(Sight::End),
            // Of a checkpoint that came to nothing.
            Element::Barrier(_) => {}
            Element::Block(_) | Element::Watermark(_) | Element::Idle => ahead.push(element.clone()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_core::checkpoint::EdgeName;
    use millrace_net::queue::{Sender, Sleeper, channel};

    use super::super::wiring::KeySource;
    use super::*;

    /// A channel of the same slot, and one of another with its sending end.
    fn inputs() -> (Inputs, Sender) {
        let (sender, receiver) = channel(Sleeper::default(), Sleeper::default());
        let edge = Arc::new(EdgeName {
            from: "source".to_owned(),
            port: 0,
            input: 0,
            number: 0,
        });
        let channel = |origin, sender| Channel {
            input: 0,
            origin,
            keys: KeySource::None,
            edge: edge.clone(),
            sender,
        };
        let channels = vec![channel(Origin::Local, 0), channel(Origin::Remote(receiver), 1)];
        (Inputs::new(channels), sender)
    }

    fn watermarks(elements: &[Element]) -> Vec<i64> {
        let value = |element: &Element| match element {
            Element::Watermark(value) => *value,
            other => panic!("{other:?}"),
        };
        elements.iter().map(value).collect()
    }

    #[test]
    fn what_is_ahead_of_a_barrier_is_found_in_inbox_and_queue() {
        let (mut inputs, sender) = inputs();
        let id = CheckpointId;
        sender.push(Element::Watermark(2));
        sender.push(Element::Barrier(id(1)));
        inputs.deliver(1, Element::Watermark(1));
        inputs.deliver(0, Element::Watermark(7));
        assert!(!inputs.has_sight(0, id(1)) && !inputs.has_sight(1, id(2)));
        let (sight, ahead) = inputs.overtake(1, id(1)).unwrap();
        assert_eq!((sight, watermarks(&ahead)), (Sight::Barrier(id(1)), vec![1, 2]));
        assert!(!inputs.has_sight(1, id(1)), "it was taken out");
        sender.push(Element::Watermark(3));
        sender.push(Element::Barrier(id(3)));
        let (sight, ahead) = inputs.overtake(1, id(2)).unwrap();
        assert_eq!((sight, watermarks(&ahead)), (Sight::Barrier(id(3)), vec![1, 2, 3]));
        sender.push(Element::End);
        let (sight, ahead) = inputs.overtake(1, id(4)).unwrap();
        assert_eq!((sight, watermarks(&ahead)), (Sight::End, vec![1, 2, 3]));
        // Nothing else is taken away.
        let (channel, element) = inputs.next_element(|channel| channel == 0).unwrap();
        assert_eq!((channel, watermarks(&[element])), (1, vec![1]));
    }

    #[test]
    fn what_is_put_back_comes_next() {
        let (mut inputs, sender) = inputs();
        sender.push(Element::Watermark(2));
        inputs.deliver(0, Element::Watermark(7));
        inputs.put_back(1, Element::Watermark(1));
        let mut next = || {
            inputs
                .next_element(|_| false)
                .map(|(channel, element)| (channel, watermarks(&[element])[0]))
        };
        assert_eq!(
            [next(), next(), next(), next()],
            [Some((1, 1)), Some((0, 7)), Some((1, 2)), None]
        );
    }
}
