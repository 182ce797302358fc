//! The open connections of one worker: how long each has been waiting, which are idle, and who has
//! to end.
//!
//! One look at all of them now and then replaces a timer and a stop channel for each, which would
//! cost every request; what is said on a connection never belongs here.

use super::idle::Idle;
use crate::refusal::Refusal;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Connections that may be asked to make room before the first of them has had its turn.
const ASKED: usize = 64;
/// Connections that may be open above the limit, since they were asked to make room and have not
/// gone yet. One that is asked goes when its turn comes, unless a request came in before whose answer
/// its client does not take.
const LEAVING: usize = 256;

/// All connections of a worker.
#[derive(Debug)]
pub(super) struct Lives {
    open: RefCell<Slab<Rc<Life>>>,
    idle: Rc<Idle>,
    leaving: Cell<usize>,
    /// Those among the leaving whose turn has not come yet.
    asked: Rc<Cell<usize>>,
}

/// Whether one more connection may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It may.
    Here,
    /// Not before those that were asked to go have had their turn.
    Soon,
    /// None, and nobody who could make some.
    None,
}

/// One connection, as far as its end is concerned.
#[derive(Debug)]
pub(super) struct Life {
    /// When it was last of use; none when another rule limits it.
    since: Cell<Option<Instant>>,
    end: Cell<Option<End>>,
    waker: RefCell<Waker>,
    key: usize,
    idle: Rc<Idle>,
    asked: Rc<Cell<usize>>,
    is_idle: Cell<bool>,
    is_leaving: Cell<bool>,
    /// Whether its place is another's, though streams of it are still to be dropped.
    is_closed: Cell<bool>,
    /// Whether the client does not take what was to be sent.
    is_blocked: Cell<bool>,
    /// Answers that are being waited for.
    awaited: Cell<u32>,
}

/// An answer that is being waited for.
#[derive(Debug)]
pub(super) struct Awaited(Rc<Life>);

#[derive(Debug, Clone, Copy)]
enum End {
    TooSlow,
    Stopping,
    MakeRoom,
}

/// How a connection ended that did not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// For this reason.
    Refused(Refusal),
    /// It was idle, and another was to have its place.
    MadeRoom,
    /// It was idle for as long as it may be: a client or proxy kept it open for later.
    Idle,
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A connection's place among the others, for as long as it is open.
#[derive(Debug)]
pub(super) struct Place {
    lives: Rc<Lives>,
    pub(super) life: Rc<Life>,
}

/// What a connection is made of: a future that can be asked to finish early.
pub(super) trait Conversation: Future {
    /// Finishes what has begun and nothing more.
    fn finish(self: Pin<&mut Self>);

    /// Tells the client, where the protocol has a word for it, that nothing more will be answered.
    fn take_leave(self: Pin<&mut Self>);
}

impl Lives {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            idle: Rc::new(Idle::new()),
            leaving: Cell::new(0),
            asked: Rc::default(),
        })
    }

    /// Begins a life, idle since nothing was asked yet.
    pub(super) fn begin(self: &Rc<Self>) -> Place {
        let mut open = self.open.borrow_mut();
        let entry = open.vacant_entry();
        let life = Rc::new(Life {
            since: Cell::new(Some(Instant::now())),
            end: Cell::new(None),
            waker: RefCell::new(Waker::noop().clone()),
            key: entry.key(),
            idle: self.idle.clone(),
            asked: self.asked.clone(),
            is_idle: Cell::new(false),
            is_leaving: Cell::new(false),
            is_closed: Cell::new(false),
            is_blocked: Cell::new(false),
            awaited: Cell::new(0),
        });
        entry.insert(life.clone());
        life.rests();
        Place {
            lives: self.clone(),
            life,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether one more may begin, with at most `limit` open: when there are as many, the one that
    /// has been idle the longest is asked to go.
    pub(super) fn room(&self, limit: usize) -> Room {
        let (open, leaving) = (self.count(), self.leaving.get());
        let full = open >= limit + LEAVING;
        if !full && open - leaving < limit {
            Room::Here
        } else if self.asked.get() >= ASKED {
            Room::Soon
        } else if !full && self.make_room() {
            Room::Here
        } else {
            Room::None
        }
    }

    /// Asks the connection that has been idle the longest to go; false when none is idle.
    pub(super) fn make_room(&self) -> bool {
        let Some(key) = self.idle.first() else {
            return false;
        };
        let life = self.open.borrow()[key].clone();
        // Out of the list, so that it is not asked twice.
        life.leaves_idle();
        life.is_leaving.set(true);
        self.leaving.set(self.leaving.get() + 1);
        self.asked.set(self.asked.get() + 1);
        life.end(End::MakeRoom);
        true
    }

    /// Ends those that have been of no use for `timeout`.
    pub(super) fn end_idle(&self, timeout: Duration) {
        let now = Instant::now();
        for (_, life) in &*self.open.borrow() {
            let idle = |since: Instant| now.saturating_duration_since(since) >= timeout;
            if life.awaited.get() == 0 && life.since.get().is_some_and(idle) {
                life.end(End::TooSlow);
            }
        }
    }

    /// Asks all to finish.
    pub(super) fn stop(&self) {
        for (_, life) in &*self.open.borrow() {
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

    /// It is between requests: from now on it may have to make room.
    pub(super) fn rests(&self) {
        if self.awaited.get() > 0 && !self.is_blocked.get() {
            return;
        }
        if !self.is_idle.replace(true) && self.is_listed() {
            self.idle.enter(self.key);
        }
    }

    /// It is in the middle of a request or an answer: it is not cut to make room, unless its client
    /// does not take the answer.
    pub(super) fn works(&self) {
        if self.is_blocked.get() {
            return self.rests();
        }
        self.leaves_idle();
    }

    /// Notes whether the client does not take what was to be sent.
    pub(super) fn blocks(&self, blocked: bool) {
        self.is_blocked.set(blocked);
    }

    /// Whether the client does not take what was to be sent.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    fn leaves_idle(&self) {
        if self.is_idle.replace(false) && self.is_listed() {
            self.idle.leave(self.key);
        }
    }

    /// Whether it is in the list of idle connections while it is idle.
    fn is_listed(&self) -> bool {
        !self.is_leaving.get() && !self.is_closed.get()
    }

    /// It waits for an answer that is not there at once, for as long as what is returned lives: who
    /// makes the answer limits the time.
    pub(super) fn awaits(self: &Rc<Self>) -> Awaited {
        self.works();
        self.awaited.set(self.awaited.get() + 1);
        Awaited(self.clone())
    }

    /// Whether it was asked to make room.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    fn end(&self, end: End) {
        if let Some(End::MakeRoom) = self.end.replace(Some(end)) {
            self.had_its_turn();
        }
        self.waker.borrow().wake_by_ref();
    }

    /// It was asked to make room, and that is settled in this way or another.
    fn had_its_turn(&self) {
        self.asked.set(self.asked.get() - 1);
    }

    /// Runs `reading` to its end or for as long as this life lasts; nothing when stopping.
    pub(super) async fn limit_or_leave<F: Future>(
        &self,
        mut reading: Pin<&mut F>,
    ) -> Result<Option<F::Output>, Ended> {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            match self.end.take() {
                Some(End::TooSlow) => return Poll::Ready(Err(self.overdue())),
                Some(End::Stopping) => return Poll::Ready(Ok(None)),
                Some(End::MakeRoom) => {
                    self.had_its_turn();
                    self.rests();
                }
                None => {}
            }
            self.waker.borrow_mut().clone_from(cx.waker());
            self.unless_it_made_room(reading.as_mut().poll(cx).map(Some))
        })
        .await
    }

    /// Runs `conversation` to its end or for as long as this life lasts.
    pub(super) async fn limit<C: Conversation>(
        &self,
        mut conversation: Pin<&mut C>,
    ) -> Result<C::Output, Ended> {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            match self.end.take() {
                Some(End::TooSlow) => return Poll::Ready(Err(self.overdue())),
                Some(End::Stopping) => conversation.as_mut().finish(),
                Some(End::MakeRoom) => {
                    self.had_its_turn();
                    self.rests();
                    conversation.as_mut().take_leave();
                }
                None => {}
            }
            self.waker.borrow_mut().clone_from(cx.waker());
            self.unless_it_made_room(conversation.as_mut().poll(cx))
        })
        .await
    }

    /// How it ends that has been of no use for too long: nothing is refused between requests.
    fn overdue(&self) -> Ended {
        if self.is_idle.get() && !self.is_blocked.get() {
            Ended::Idle
        } else {
            Refusal::TooSlow.into()
        }
    }

    /// What came in before it was asked to go has been read and answered by now: if it is idle all
    /// the same, it goes.
    fn unless_it_made_room<T>(&self, polled: Poll<T>) -> Poll<Result<T, Ended>> {
        if polled.is_pending() && self.is_leaving.get() && self.is_idle.get() {
            return Poll::Ready(Err(Ended::MadeRoom));
        }
        polled.map(Ok)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.awaited.set(self.0.awaited.get() - 1);
        self.0.used(Instant::now());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.life.leaves_idle();
        self.life.is_closed.set(true);
        if let Some(End::MakeRoom) = self.life.end.take() {
            self.life.had_its_turn();
        }
        if self.life.is_leaving.get() {
            self.lives.leaving.set(self.lives.leaving.get() - 1);
        }
        self.lives.open.borrow_mut().remove(self.life.key);
    }
}
