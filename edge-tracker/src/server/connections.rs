//! The open connections of one worker: which are idle, since when, and which must close.
//!
//! One scan of the table at an interval replaces a timer and a stop channel for each connection, which would
//! cost every request. Protocols never belong here.

use super::idle::IdleQueue;
use crate::refusal::Refusal;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Connections that may be signalled to close before the first of them was polled again.
const MAX_PENDING_EVICTIONS: usize = 64;
/// Connections that may be open above the limit because they were evicted and have not closed yet. An evicted
/// connection closes when it is polled next, unless a request arrived before and its client does not read the
/// response.
const MAX_DRAINING_OVER_LIMIT: usize = 256;

/// All connections of a worker.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    open: RefCell<Slab<Rc<ConnectionState>>>,
    idle: Rc<IdleQueue>,
    draining: Cell<usize>,
    /// Evicted connections that were not polled since.
    pending_evictions: Rc<Cell<usize>>,
}

/// Whether one more connection can be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admit,
    /// Not before evicted connections were polled.
    Wait,
    /// The table is full, and no connection can be evicted.
    Reject,
}

/// The state of one connection that decides when it closes.
#[derive(Debug)]
pub(super) struct ConnectionState {
    /// When a request was last received; none when another rule limits the connection.
    last_used: Cell<Option<Instant>>,
    close_signal: Cell<Option<CloseSignal>>,
    waker: RefCell<Waker>,
    key: usize,
    idle: Rc<IdleQueue>,
    pending_evictions: Rc<Cell<usize>>,
    is_idle: Cell<bool>,
    is_evicted: Cell<bool>,
    /// Whether its slot in the table was freed, though streams of it are still to be dropped.
    is_closed: Cell<bool>,
    /// Whether the client does not read its responses.
    is_blocked: Cell<bool>,
    pending_responses: Cell<u32>,
}

/// A response that is not ready yet; its connection is busy for as long as this lives.
#[derive(Debug)]
pub(super) struct PendingResponseGuard(Rc<ConnectionState>);

#[derive(Debug, Clone, Copy)]
enum CloseSignal {
    TimedOut,
    ShutDown,
    Evict,
}

/// Why the edge closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseReason {
    Refused(Refusal),
    /// It was idle, and another connection needed its slot.
    Evicted,
    /// It reached the idle timeout: a client or proxy kept it open for later.
    Idle,
}

impl From<Refusal> for CloseReason {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A connection's slot in the table; dropping it frees the slot.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    table: Rc<ConnectionTable>,
    pub(super) state: Rc<ConnectionState>,
}

/// A connection that can be closed without cutting off a response.
pub(super) trait GracefulShutdown: Future {
    /// Finishes requests that were received, and accepts no more.
    fn start_drain(self: Pin<&mut Self>);

    /// Announces to the client, where the protocol can, that further requests get no response.
    fn send_goaway(self: Pin<&mut Self>);
}

impl ConnectionTable {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            idle: Rc::new(IdleQueue::new()),
            draining: Cell::new(0),
            pending_evictions: Rc::default(),
        })
    }

    /// Adds a connection, idle until its first request.
    pub(super) fn insert(self: &Rc<Self>) -> ConnectionGuard {
        let mut open = self.open.borrow_mut();
        let entry = open.vacant_entry();
        let state = Rc::new(ConnectionState {
            last_used: Cell::new(Some(Instant::now())),
            close_signal: Cell::new(None),
            waker: RefCell::new(Waker::noop().clone()),
            key: entry.key(),
            idle: self.idle.clone(),
            pending_evictions: self.pending_evictions.clone(),
            is_idle: Cell::new(false),
            is_evicted: Cell::new(false),
            is_closed: Cell::new(false),
            is_blocked: Cell::new(false),
            pending_responses: Cell::new(0),
        });
        entry.insert(state.clone());
        state.mark_idle();
        ConnectionGuard {
            table: self.clone(),
            state,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether one more connection can be accepted with at most `limit` open. At the limit the connection that
    /// has been idle the longest is evicted.
    pub(super) fn admit(&self, limit: usize) -> Admission {
        let (open, draining) = (self.count(), self.draining.get());
        let full = open >= limit + MAX_DRAINING_OVER_LIMIT;
        if !full && open - draining < limit {
            Admission::Admit
        } else if self.pending_evictions.get() >= MAX_PENDING_EVICTIONS {
            Admission::Wait
        } else if !full && self.evict_oldest_idle() {
            Admission::Admit
        } else {
            Admission::Reject
        }
    }

    /// Evicts the connection that has been idle the longest; false when none is idle.
    pub(super) fn evict_oldest_idle(&self) -> bool {
        let Some(key) = self.idle.oldest() else {
            return false;
        };
        let state = self.open.borrow()[key].clone();
        // Out of the queue first, so that it is not evicted twice.
        state.leave_idle_queue();
        state.is_evicted.set(true);
        self.draining.set(self.draining.get() + 1);
        self.pending_evictions.set(self.pending_evictions.get() + 1);
        state.signal(CloseSignal::Evict);
        true
    }

    /// Closes connections without a request for `timeout`.
    pub(super) fn close_timed_out(&self, timeout: Duration) {
        let now = Instant::now();
        for (_, state) in &*self.open.borrow() {
            let timed_out = |since: Instant| now.saturating_duration_since(since) >= timeout;
            if state.pending_responses.get() == 0 && state.last_used.get().is_some_and(timed_out) {
                state.signal(CloseSignal::TimedOut);
            }
        }
    }

    /// Drains all connections.
    pub(super) fn shut_down(&self) {
        for (_, state) in &*self.open.borrow() {
            state.signal(CloseSignal::ShutDown);
        }
    }
}

impl ConnectionState {
    /// Restarts the idle timeout at `moment`.
    pub(super) fn touch(&self, moment: Instant) {
        if self.last_used.get().is_some() {
            self.last_used.set(Some(moment));
        }
    }

    /// Exempts the connection from the timeout, since another rule limits it.
    pub(super) fn disable_idle_timeout(&self) {
        self.last_used.set(None);
    }

    /// The connection is between requests: it may be evicted.
    pub(super) fn mark_idle(&self) {
        if self.pending_responses.get() > 0 && !self.is_blocked.get() {
            return;
        }
        if !self.is_idle.replace(true) && self.is_listed() {
            self.idle.push(self.key);
        }
    }

    /// The connection is in the middle of a request or response: it is not evicted unless its client does not
    /// read the response.
    pub(super) fn mark_busy(&self) {
        if self.is_blocked.get() {
            return self.mark_idle();
        }
        self.leave_idle_queue();
    }

    /// Whether it may be evicted.
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle.get()
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.is_blocked.set(blocked);
    }

    /// Whether the client does not read its responses.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    fn leave_idle_queue(&self) {
        if self.is_idle.replace(false) && self.is_listed() {
            self.idle.remove(self.key);
        }
    }

    /// Whether it is in the idle queue while it is idle.
    fn is_listed(&self) -> bool {
        !self.is_evicted.get() && !self.is_closed.get()
    }

    /// Keeps the connection busy until the guard is dropped. The host of the function limits that time.
    pub(super) fn await_response(self: &Rc<Self>) -> PendingResponseGuard {
        self.mark_busy();
        self.pending_responses.set(self.pending_responses.get() + 1);
        PendingResponseGuard(self.clone())
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.get()
    }

    fn signal(&self, signal: CloseSignal) {
        if let Some(CloseSignal::Evict) = self.close_signal.replace(Some(signal)) {
            self.eviction_was_polled();
        }
        self.waker.borrow().wake_by_ref();
    }

    /// The eviction signal was consumed, or replaced by another.
    fn eviction_was_polled(&self) {
        self.pending_evictions.set(self.pending_evictions.get() - 1);
    }

    /// Polls `reading` until it ends or the connection must close; nothing at shutdown.
    pub(super) async fn run_until_shutdown<F: Future>(
        &self,
        mut reading: Pin<&mut F>,
    ) -> Result<Option<F::Output>, CloseReason> {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            match self.close_signal.take() {
                Some(CloseSignal::TimedOut) => return Poll::Ready(Err(self.timeout_reason())),
                Some(CloseSignal::ShutDown) => return Poll::Ready(Ok(None)),
                Some(CloseSignal::Evict) => {
                    self.eviction_was_polled();
                    self.mark_idle();
                }
                None => {}
            }
            self.waker.borrow_mut().clone_from(cx.waker());
            self.close_if_evicted(reading.as_mut().poll(cx).map(Some))
        })
        .await
    }

    /// Polls `connection` until it ends or must close; at shutdown it is drained.
    pub(super) async fn run_until_drained<C: GracefulShutdown>(
        &self,
        mut connection: Pin<&mut C>,
    ) -> Result<C::Output, CloseReason> {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            match self.close_signal.take() {
                Some(CloseSignal::TimedOut) => return Poll::Ready(Err(self.timeout_reason())),
                Some(CloseSignal::ShutDown) => connection.as_mut().start_drain(),
                Some(CloseSignal::Evict) => {
                    self.eviction_was_polled();
                    self.mark_idle();
                    connection.as_mut().send_goaway();
                }
                None => {}
            }
            self.waker.borrow_mut().clone_from(cx.waker());
            self.close_if_evicted(connection.as_mut().poll(cx))
        })
        .await
    }

    /// A timeout between requests is no refusal.
    fn timeout_reason(&self) -> CloseReason {
        if self.is_idle() && !self.is_blocked() {
            CloseReason::Idle
        } else {
            Refusal::TooSlow.into()
        }
    }

    /// Requests that arrived before the eviction have been read and served by now: a connection that is still
    /// idle closes.
    fn close_if_evicted<T>(&self, polled: Poll<T>) -> Poll<Result<T, CloseReason>> {
        if polled.is_pending() && self.is_evicted() && self.is_idle() {
            return Poll::Ready(Err(CloseReason::Evicted));
        }
        polled.map(Ok)
    }
}

impl Drop for PendingResponseGuard {
    fn drop(&mut self) {
        let pending = &self.0.pending_responses;
        pending.set(pending.get() - 1);
        self.0.touch(Instant::now());
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.state.leave_idle_queue();
        self.state.is_closed.set(true);
        if let Some(CloseSignal::Evict) = self.state.close_signal.take() {
            self.state.eviction_was_polled();
        }
        if self.state.is_evicted.get() {
            self.table.draining.set(self.table.draining.get() - 1);
        }
        self.table.open.borrow_mut().remove(self.state.key);
    }
}
