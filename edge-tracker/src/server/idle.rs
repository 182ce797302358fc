//! Which connections of a worker are idle, in the order in which they became so. It knows numbers;
//! what a connection is never belongs here.

use std::cell::RefCell;

/// The place before the first and after the last: a ring needs no special cases.
const ENDS: usize = 0;

/// A list through an array: entering, leaving and asking for the first take the same few steps
/// however many there are, and at 50,000 connections all of it is 400 KB.
#[derive(Debug)]
pub(super) struct Idle(RefCell<Vec<Links>>);

#[derive(Debug, Clone, Copy)]
struct Links {
    previous: u32,
    next: u32,
}

impl Idle {
    /// With nobody in it.
    pub(super) fn new() -> Self {
        Self(RefCell::new(vec![Links::alone(ENDS)]))
    }

    /// Lets `key`, which is not in the list, be the last.
    pub(super) fn enter(&self, key: usize) {
        let links = &mut *self.0.borrow_mut();
        let place = key + 1;
        while links.len() <= place {
            links.push(Links::alone(links.len()));
        }
        let last = links[ENDS].previous as usize;
        links[place] = Links {
            previous: number(last),
            next: number(ENDS),
        };
        links[last].next = number(place);
        links[ENDS].previous = number(place);
    }

    /// Takes `key` out, if it is in the list.
    pub(super) fn leave(&self, key: usize) {
        let links = &mut *self.0.borrow_mut();
        let Some(Links { previous, next }) = links.get(key + 1).copied() else {
            return;
        };
        links[previous as usize].next = next;
        links[next as usize].previous = previous;
        links[key + 1] = Links::alone(key + 1);
    }

    /// Who has been in the list the longest.
    pub(super) fn first(&self) -> Option<usize> {
        (self.0.borrow()[ENDS].next as usize).checked_sub(1)
    }
}

impl Links {
    fn alone(place: usize) -> Self {
        Self {
            previous: number(place),
            next: number(place),
        }
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("a worker has at most a million connections")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Against a plain queue.
        #[test]
        fn the_first_is_who_entered_first(steps in prop::collection::vec((0_usize..40, any::<bool>()), 0..400)) {
            let (idle, mut model) = (Idle::new(), VecDeque::new());
            for (key, enters) in steps {
                if model.contains(&key) {
                    idle.leave(key);
                    model.retain(|other| *other != key);
                } else if enters {
                    idle.enter(key);
                    model.push_back(key);
                } else {
                    idle.leave(key);
                }
                prop_assert_eq!(idle.first(), model.front().copied());
            }
            while let Some(key) = model.pop_front() {
                prop_assert_eq!(idle.first(), Some(key));
                idle.leave(key);
            }
            prop_assert_eq!(idle.first(), None);
        }
    }
}
