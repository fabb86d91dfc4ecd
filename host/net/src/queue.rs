//! Bounded channels between slots.
//!
//! One queue per channel, so that a slow channel holds up no other. The sender never blocks: it asks
//! [`Sender::has_room`] before it works and pushes what it made, so a queue may exceed its bound by the
//! output of one step. A slot that has nothing to do sleeps in its [`Sleeper`]; pushing to it, or making
//! room for it, wakes it.
//!
//! ```text
//!   slot A: step -> push --------> [ bounded queue ] --------> pop -> step: slot B
//!             ^ sleeps while full       |   | wakes B when it was asleep
//!             '------ wakes A when room '---'
//! ```
//!
//! A barrier that is to overtake what waits is taken out by the receiver, which looks ahead for it ([`Receiver::edit`])
//! and copies what is in front of it: a matter of counting references.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use millrace_core::block::Element;

/// Elements that a queue holds before its sender has to wait. Two blocks keep both sides busy; the rest
/// absorbs the jitter of two threads on two cores.
pub const QUEUE_ELEMENTS_MAX: usize = 16;

/// Puts a slot's thread to sleep and wakes it. Cheap to clone.
#[derive(Clone)]
pub struct Sleeper {
    inner: Arc<SleeperInner>,
}

struct SleeperInner {
    thread: Mutex<Option<Thread>>,
    asleep: AtomicBool,
}

impl Default for Sleeper {
    fn default() -> Self {
        Sleeper {
            inner: Arc::new(SleeperInner {
                thread: Mutex::new(None),
                asleep: AtomicBool::new(false),
            }),
        }
    }
}

impl Sleeper {
    /// Names the calling thread as the one that sleeps here. Once, before [`Sleeper::sleep`].
    pub fn adopt_current_thread(&self) {
        *lock(&self.inner.thread) = Some(std::thread::current());
    }

    /// Announces that the thread is about to sleep; whoever pushes from now on wakes it. Look for work once
    /// more between this and [`Sleeper::sleep`].
    pub fn announce(&self) {
        self.inner.asleep.store(true, Ordering::SeqCst);
    }

    /// Takes the announcement back: there was work after all.
    pub fn retract(&self) {
        self.inner.asleep.store(false, Ordering::SeqCst);
    }

    /// Sleeps until woken, or for the given time at most.
    pub fn sleep(&self, longest: Option<Duration>) {
        match longest {
            Some(longest) => std::thread::park_timeout(longest),
            None => std::thread::park(),
        }
        self.retract();
    }

    /// Wakes the thread if it sleeps or is about to.
    pub fn wake(&self) {
        if self.inner.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = lock(&self.inner.thread).as_ref()
        {
            thread.unpark();
        }
    }
}

/// A panic of another thread while it held one of these locks leaves nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Queue {
    elements: Mutex<VecDeque<Element>>,
    /// Same as the length of `elements`, to look without the lock.
    length: AtomicUsize,
    sender: Sleeper,
    receiver: Sleeper,
}

/// A channel from the slot of `sender` to that of `receiver`.
pub fn channel(sender: Sleeper, receiver: Sleeper) -> (Sender, Receiver) {
    let elements = Mutex::new(VecDeque::with_capacity(QUEUE_ELEMENTS_MAX));
    let queue = Arc::new(Queue {
        elements,
        length: AtomicUsize::new(0),
        sender,
        receiver,
    });
    (Sender { queue: queue.clone() }, Receiver { queue })
}

/// The sending end.
pub struct Sender {
    queue: Arc<Queue>,
}

impl Sender {
    /// Whether the next step may push.
    pub fn has_room(&self) -> bool {
        self.queue.length.load(Ordering::SeqCst) < QUEUE_ELEMENTS_MAX
    }

    /// Appends an element and wakes the receiver.
    pub fn push(&self, element: Element) {
        {
            let mut elements = lock(&self.queue.elements);
            elements.push_back(element);
            self.queue.length.store(elements.len(), Ordering::SeqCst);
        }
        self.queue.receiver.wake();
    }
}

/// The receiving end.
pub struct Receiver {
    queue: Arc<Queue>,
}

impl Receiver {
    /// Whether there is something to pop.
    pub fn has_element(&self) -> bool {
        self.queue.length.load(Ordering::SeqCst) > 0
    }

    /// Looks at all elements that wait, the next one first; senders cannot push meanwhile.
    pub fn peek<T>(&self, look: impl FnOnce(&VecDeque<Element>) -> T) -> T {
        look(&lock(&self.queue.elements))
    }

    /// Lets the receiver take elements out of the middle.
    pub fn edit<T>(&self, edit: impl FnOnce(&mut VecDeque<Element>) -> T) -> T {
        let (result, had_room, length) = {
            let mut elements = lock(&self.queue.elements);
            let before = elements.len();
            let result = edit(&mut elements);
            self.queue.length.store(elements.len(), Ordering::SeqCst);
            (result, before < QUEUE_ELEMENTS_MAX, elements.len())
        };
        if !had_room && length < QUEUE_ELEMENTS_MAX {
            self.queue.sender.wake();
        }
        result
    }

    /// The next element, if there is one; wakes a sender that waits for room.
    pub fn pop(&self) -> Option<Element> {
        if !self.has_element() {
            return None;
        }
        let (element, length) = {
            let mut elements = lock(&self.queue.elements);
            let element = elements.pop_front();
            self.queue.length.store(elements.len(), Ordering::SeqCst);
            (element, elements.len())
        };
        // Waking at half rather than at the first gap spares a sender a nap per element.
        if length == QUEUE_ELEMENTS_MAX / 2 {
            self.queue.sender.wake();
        }
        element
    }
}

#[cfg(test)]
mod tests {
    use millrace_core::checkpoint::CheckpointId;

    use super::*;

    #[test]
    fn what_is_taken_out_of_the_middle_makes_room() {
        let (sender, receiver) = channel(Sleeper::default(), Sleeper::default());
        for _ in 1..QUEUE_ELEMENTS_MAX {
            sender.push(Element::Idle);
        }
        sender.push(Element::Barrier(CheckpointId(1)));
        assert!(!sender.has_room());
        receiver.edit(|queue| queue.retain(|element| !matches!(element, Element::Barrier(_))));
        assert!(sender.has_room());
        assert_eq!(receiver.peek(VecDeque::len), QUEUE_ELEMENTS_MAX - 1);
    }

    #[test]
    fn elements_arrive_in_order_across_threads_and_the_bound_holds() {
        const COUNT: i64 = 10_000;
        let (ours, theirs) = (Sleeper::default(), Sleeper::default());
        let (sender, receiver) = channel(ours.clone(), theirs.clone());
        let sending = std::thread::spawn(move || {
            ours.adopt_current_thread();
            for value in 0..COUNT {
                while !sender.has_room() {
                    ours.announce();
                    if sender.has_room() {
                        ours.retract();
                    } else {
                        ours.sleep(None);
                    }
                }
                sender.push(Element::Watermark(value));
            }
        });
        theirs.adopt_current_thread();
        for expected in 0..COUNT {
            let element = loop {
                if let Some(element) = receiver.pop() {
                    break element;
                }
                theirs.announce();
                if receiver.has_element() {
                    theirs.retract();
                } else {
                    theirs.sleep(None);
                }
            };
            assert!(matches!(element, Element::Watermark(value) if value == expected));
            assert!(lock(&receiver.queue.elements).len() <= QUEUE_ELEMENTS_MAX);
        }
        sending.join().expect("the sender ends");
    }
}
