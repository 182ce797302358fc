//! The open connections of one worker: how long each has been waiting, and who has to end.
//!
//! One look at all of them now and then replaces a timer and a stop channel for each, which would
//! cost every request; what is said on a connection never belongs here.

use crate::refusal::Refusal;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// All connections of a worker.
#[derive(Debug, Default)]
pub(super) struct Lives(RefCell<Slab<Rc<Life>>>);

/// One connection, as far as its end is concerned.
#[derive(Debug)]
pub(super) struct Life {
    /// When it was last of use; none when another rule limits it.
    since: Cell<Option<Instant>>,
    end: Cell<Option<End>>,
    waker: RefCell<Waker>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    TooSlow,
    Stopping,
}

/// A connection's place among the others, for as long as it is open.
#[derive(Debug)]
pub(super) struct Place {
    lives: Rc<Lives>,
    key: usize,
    pub(super) life: Rc<Life>,
}

/// What a connection is made of: a future that can be asked to finish early.
pub(super) trait Conversation: Future {
    /// Finishes what has begun and nothing more.
    fn finish(self: Pin<&mut Self>);
}

impl Lives {
    pub(super) fn begin(self: &Rc<Self>) -> Place {
        let life = Rc::new(Life {
            since: Cell::new(Some(Instant::now())),
            end: Cell::new(None),
            waker: RefCell::new(Waker::noop().clone()),
        });
        let key = self.0.borrow_mut().insert(life.clone());
        Place {
            lives: self.clone(),
            key,
            life,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Ends those that have been of no use for `timeout`.
    pub(super) fn end_idle(&self, timeout: Duration) {
        let now = Instant::now();
        for (_, life) in &*self.0.borrow() {
            let idle = |since: Instant| now.saturating_duration_since(since) >= timeout;
            if life.since.get().is_some_and(idle) {
                life.end(End::TooSlow);
            }
        }
    }

    /// Asks all to finish.
    pub(super) fn stop(&self) {
        for (_, life) in &*self.0.borrow() {
            life.end(End::Stopping);
        }
    }
}

impl Life {
    /// It was of use at `moment`.
    pub(super) fn used(&self, moment: Instant) {
        if self.since.get().is_some() {
            self.since.set(Some(moment));
        }
    }

    /// Another rule limits it from now on.
    pub(super) fn exempt(&self) {
        self.since.set(None);
    }

    fn end(&self, end: End) {
        self.end.set(Some(end));
        self.waker.borrow().wake_by_ref();
    }

    /// Runs `reading` to its end or for as long as this life lasts; nothing when stopping.
    pub(super) async fn limit_or_leave<F: Future>(
        &self,
        mut reading: Pin<&mut F>,
    ) -> Result<Option<F::Output>, Refusal> {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            match self.end.take() {
                Some(End::TooSlow) => return Poll::Ready(Err(Refusal::TooSlow)),
                Some(End::Stopping) => return Poll::Ready(Ok(None)),
                None => {}
            }
            self.waker.borrow_mut().clone_from(cx.waker());
            reading.as_mut().poll(cx).map(|read| Ok(Some(read)))
        })
        .await
    }

    /// Runs `conversation` to its end or for as long as this life lasts.
    pub(super) async fn limit<C: Conversation>(
        &self,
        mut conversation: Pin<&mut C>,
    ) -> Result<C::Output, Refusal> {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            match self.end.take() {
                Some(End::TooSlow) => return Poll::Ready(Err(Refusal::TooSlow)),
                Some(End::Stopping) => conversation.as_mut().finish(),
                None => {}
            }
            self.waker.borrow_mut().clone_from(cx.waker());
            conversation.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lives.0.borrow_mut().remove(self.key);
    }
}
