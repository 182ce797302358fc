//! The keys of a worker's idle connections, in the order in which they became idle. The state of a
//! connection never belongs here.

use std::cell::RefCell;

/// The slot before the first and after the last key: a ring needs no special cases.
const ENDS: usize = 0;

/// A doubly linked list in an array: all operations take constant time, and 50,000 connections take 400 KB.
#[derive(Debug)]
pub(super) struct IdleQueue(RefCell<Vec<Links>>);

#[derive(Debug, Clone, Copy)]
struct Links {
    previous: u32,
    next: u32,
}

impl IdleQueue {
    pub(super) fn new() -> Self {
        Self(RefCell::new(vec![Links::unlinked(ENDS)]))
    }

    /// Appends `key`, which must not be in the queue.
    pub(super) fn push(&self, key: usize) {
        let links = &mut *self.0.borrow_mut();
        let slot = key + 1;
        while links.len() <= slot {
            links.push(Links::unlinked(links.len()));
        }
        let last = links[ENDS].previous as usize;
        links[slot] = Links {
            previous: as_u32(last),
            next: as_u32(ENDS),
        };
        links[last].next = as_u32(slot);
        links[ENDS].previous = as_u32(slot);
    }

    /// Removes `key` if it is in the queue.
    pub(super) fn remove(&self, key: usize) {
        let links = &mut *self.0.borrow_mut();
        let Some(Links { previous, next }) = links.get(key + 1).copied() else {
            return;
        };
        links[previous as usize].next = next;
        links[next as usize].previous = previous;
        links[key + 1] = Links::unlinked(key + 1);
    }

    /// The key that has been in the queue the longest.
    pub(super) fn oldest(&self) -> Option<usize> {
        (self.0.borrow()[ENDS].next as usize).checked_sub(1)
    }
}

impl Links {
    fn unlinked(slot: usize) -> Self {
        Self {
            previous: as_u32(slot),
            next: as_u32(slot),
        }
    }
}

fn as_u32(slot: usize) -> u32 {
    u32::try_from(slot).expect("a worker has at most a million connections")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Against a plain queue.
        #[test]
        fn keys_leave_in_the_order_of_entry(steps in prop::collection::vec((0_usize..40, any::<bool>()), 0..400)) {
            let (idle, mut model) = (IdleQueue::new(), VecDeque::new());
            for (key, enters) in steps {
                if model.contains(&key) {
                    idle.remove(key);
                    model.retain(|other| *other != key);
                } else if enters {
                    idle.push(key);
                    model.push_back(key);
                } else {
                    idle.remove(key);
                }
                prop_assert_eq!(idle.oldest(), model.front().copied());
            }
            while let Some(key) = model.pop_front() {
                prop_assert_eq!(idle.oldest(), Some(key));
                idle.remove(key);
            }
            prop_assert_eq!(idle.oldest(), None);
        }
    }
}
