//! One connection to the aggregator, from the `Hello` to its end.

use super::{Dial, FleetState, Reason, Shipper};
use event_shipping::{
    AggregatorMessage, EdgeMessage, MAX_CONTROL_MESSAGE_BYTES, read_message, write_message,
};
use std::time::Duration;
use storage::Storage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How often lanes are looked at for batches that have become due.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the last batches may take to be acknowledged when stopping.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How a conversation ended.
pub(super) struct Ended {
    pub(super) welcomed: bool,
    pub(super) reason: Reason,
}

/// Talks until the connection ends or `stop` turns true.
pub(super) async fn hold<S: Storage, D: Dial>(
    shipper: &mut Shipper<S, D>,
    (mut send, mut receive): (D::Send, D::Receive),
    mut stop: watch::Receiver<bool>,
) -> Ended {
    let greeted = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => Err(Reason::new("stopping", "asked to stop")),
        greeted = greet(shipper, &mut send, &mut receive) => greeted,
    };
    if let Err(reason) = greeted {
        return Ended {
            welcomed: false,
            reason,
        };
    }
    shipper.metrics.connected.set(1);
    tracing::info!(aggregator = shipper.dial.peer(), "shipping");
    let reason = ship(shipper, send, receive, stop).await;
    Ended {
        welcomed: true,
        reason,
    }
}

async fn greet<S: Storage, D: Dial>(
    shipper: &mut Shipper<S, D>,
    send: &mut D::Send,
    receive: &mut D::Receive,
) -> Result<(), Reason> {
    let hello = EdgeMessage::Hello(shipper.spool.hello(shipper.node));
    write_message(send, &hello)
        .await
        .map_err(|error| Reason::new("write", error))?;
    let answer = read_message::<AggregatorMessage>(receive, MAX_CONTROL_MESSAGE_BYTES);
    match tokio::time::timeout(WELCOME_TIMEOUT, answer).await {
        Ok(Ok(Some(AggregatorMessage::Welcome(welcome)))) => {
            shipper.fleet.send_replace(Some(FleetState::of(&welcome)));
            shipper.spool.welcome(&welcome)
        }
        Ok(Ok(Some(AggregatorMessage::Refuse(refuse)))) => Err(Reason::refused(refuse)),
        Ok(Ok(Some(AggregatorMessage::Ack(_)))) => {
            Err(Reason::new("unsound", "an Ack before the Welcome"))
        }
        Ok(Ok(None)) => Err(Reason::new("connection", "closed before the Welcome")),
        Ok(Err(error)) => Err(Reason::new("read", error)),
        Err(_) => Err(Reason::new("welcome_timeout", "no Welcome")),
    }
}

/// A task that is ended with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ship<S: Storage, D: Dial>(
    shipper: &mut Shipper<S, D>,
    send: D::Send,
    receive: D::Receive,
    mut stop: watch::Receiver<bool>,
) -> Reason {
    let (answers, mut answered) = mpsc::channel(16);
    let (batches, to_write) = mpsc::channel(1);
    let (failed, mut failure) = mpsc::channel(2);
    // Neither reading nor writing a message may be interrupted, so each has a task.
    let _reading = Task(tokio::spawn(read_answers(receive, answers, failed.clone())));
    let _writing = Task(tokio::spawn(write_batches(send, to_write, failed)));
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop_at = None;
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if stop_at.is_none() => {
                stop_at = Some(Instant::now() + STOP_TIMEOUT);
            }
            Some(answer) = answered.recv() => {
                if let Err(reason) = take(shipper, answer) {
                    return reason;
                }
            }
            Some(reason) = failure.recv() => return reason,
            _ = look.tick() => {}
        }
        shipper.spool.seal_due(Instant::now().into_std());
        shipper.spool.release_covered();
        while let Ok(place) = batches.try_reserve() {
            match shipper.spool.next_batch() {
                Some(batch) => place.send(EdgeMessage::Batch(batch)),
                None => break,
            }
        }
        let done = shipper.spool.is_drained();
        if stop_at.is_some_and(|at| done || Instant::now() >= at) {
            return Reason::new("stopping", "asked to stop");
        }
    }
}

fn take<S: Storage, D: Dial>(
    shipper: &mut Shipper<S, D>,
    answer: AggregatorMessage,
) -> Result<(), Reason> {
    match answer {
        AggregatorMessage::Ack(ack) => shipper
            .spool
            .acknowledge(&ack)
            .map_err(|error| Reason::new("unsound", error)),
        AggregatorMessage::Refuse(refuse) => Err(Reason::refused(refuse)),
        AggregatorMessage::Welcome(_) => Err(Reason::new("unsound", "a second Welcome")),
    }
}

async fn read_answers(
    mut receive: impl AsyncRead + Unpin,
    answers: mpsc::Sender<AggregatorMessage>,
    failed: mpsc::Sender<Reason>,
) {
    let reason = loop {
        match read_message::<AggregatorMessage>(&mut receive, MAX_CONTROL_MESSAGE_BYTES).await {
            Ok(Some(answer)) => {
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
            Ok(None) => break Reason::new("connection", "the aggregator closed the stream"),
            Err(error) => break Reason::new("read", error),
        }
    };
    let _ = failed.send(reason).await;
}

async fn write_batches(
    mut send: impl AsyncWrite + Unpin,
    mut batches: mpsc::Receiver<EdgeMessage>,
    failed: mpsc::Sender<Reason>,
) {
    while let Some(batch) = batches.recv().await {
        if let Err(error) = write_message(&mut send, &batch).await {
            let _ = failed.send(Reason::new("write", error)).await;
            return;
        }
    }
}
