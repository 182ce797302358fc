//! The subscription to the configuration, on a stream of its own alongside the events.

use super::status::ConfigStatus;
use super::target::{self, LinkTarget};
use crate::links::ActiveLinks;
use anyhow::Context as _;
use daemon::backoff::Backoff;
use domain::NodeId;
use edge_config::{
    CONFIG_PROTOCOL_VERSION, HeldVersion, MAX_CONFIG_MESSAGE_BYTES, Outcome, PublisherMessage,
    Response, Subscribe, Subscriber, SubscriberMessage, UpdatePart, UpdateRefusal,
};
use event_shipping::{read_message, write_message};
use quinn::{Connection, RecvStream, SendStream};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const RESUBSCRIBE: Backoff = Backoff::doubling(Duration::from_millis(100), Duration::from_secs(5));
/// A subscription that lasted longer was no failed attempt.
const STEADY_SUBSCRIPTION: Duration = Duration::from_secs(10);
/// The limit for the aggregator's permission to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the configuration up to date.
pub struct ConfigClient {
    /// This node.
    pub node: NodeId,
    /// The connection to the aggregator.
    pub connection: watch::Receiver<Option<Connection>>,
    /// The file with the last good version.
    pub file: PathBuf,
    /// The links in use.
    pub links: Arc<ActiveLinks>,
    /// What is in use. `None` after the file failed: it is opened again.
    pub subscriber: Option<Subscriber<LinkTarget>>,
    /// What others see of it.
    pub status: ConfigStatus,
}

impl ConfigClient {
    /// Applies updates on a thread of its own until `stop` turns true: applying one waits for the disk. Calls `applied`
    /// after each.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        self,
        applied: impl Fn() + Send + 'static,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let thread = std::thread::Builder::new().name("config".into());
        thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => {}
                    () = self.keep_subscribed(&applied) => {}
                }
            });
        })
    }

    async fn keep_subscribed(mut self, applied: &impl Fn()) {
        let mut failures = 0;
        loop {
            let connection = self.connection.wait_for(Option::is_some).await;
            let Ok(Some(connection)) = connection.map(|it| it.clone()) else {
                return;
            };
            let started = Instant::now();
            let error = match self.subscribe(&connection, applied).await {
                Ok(()) => "the aggregator closed the stream".to_owned(),
                Err(error) => error.to_string(),
            };
            self.status.subscribed(false);
            if started.elapsed() >= STEADY_SUBSCRIPTION {
                failures = 0;
            }
            failures += 1;
            let pause = RESUBSCRIBE.pause(failures);
            tracing::info!(
                error,
                retry_in = ?pause,
                "no subscription to the configuration; the last version stays in use"
            );
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.connection.changed() => {}
            }
        }
    }

    /// Applies updates until the stream ends or the file fails.
    async fn subscribe(
        &mut self,
        connection: &Connection,
        applied: &impl Fn(),
    ) -> anyhow::Result<()> {
        let mut subscriber = match self.subscriber.take() {
            Some(subscriber) => subscriber,
            None => target::open(&self.file, self.links.clone())?,
        };
        let followed = self.follow(&mut subscriber, connection, applied).await;
        subscriber.disconnected();
        // After a failure the file accepts nothing more until it is opened again, and it may hold the new version.
        let has_failed = matches!(&followed, Err(error) if error.is::<StorageFailed>());
        self.subscriber = (!has_failed).then_some(subscriber);
        followed
    }

    async fn follow(
        &self,
        subscriber: &mut Subscriber<LinkTarget>,
        connection: &Connection,
        applied: &impl Fn(),
    ) -> anyhow::Result<()> {
        let opened = timeout(OPEN_TIMEOUT, connection.open_bi()).await;
        let (mut send, mut receive) =
            opened.context("the aggregator permits no stream for it")??;
        let subscribe = Subscribe {
            protocol: CONFIG_PROTOCOL_VERSION,
            node: self.node.0,
            held: subscriber.held(),
        };
        write_message(&mut send, &SubscriberMessage::Subscribe(subscribe)).await?;
        self.status.subscribed(true);
        while let Some(part) = read_part(&mut receive).await? {
            if let Some(response) = subscriber.receive(&part) {
                self.respond(&mut send, response, subscriber.held(), applied)
                    .await?;
            }
        }
        Ok(())
    }

    async fn respond(
        &self,
        send: &mut SendStream,
        response: Response,
        held: HeldVersion,
        applied: &impl Fn(),
    ) -> anyhow::Result<()> {
        self.status.responded(&response.outcome, held);
        let mut has_failed = false;
        match &response.outcome {
            Outcome::Applied => {
                applied();
                tracing::info!(version = held.version, "configuration applied");
            }
            Outcome::Refused { code, detail } => {
                has_failed = *code == UpdateRefusal::Storage.number();
                tracing::error!(
                    code,
                    detail,
                    version = held.version,
                    "refused an update of the configuration; the last version stays in use"
                );
            }
        }
        write_message(send, &SubscriberMessage::Response(response)).await?;
        if has_failed {
            // The response is sent before the stream ends.
            let _ = send.finish();
            return Err(StorageFailed.into());
        }
        Ok(())
    }
}

/// The file of the configuration failed.
#[derive(Debug, Error)]
#[error("the file of the configuration failed; opening it again")]
struct StorageFailed;

async fn read_part(receive: &mut RecvStream) -> anyhow::Result<Option<UpdatePart>> {
    let message = read_message(receive, MAX_CONFIG_MESSAGE_BYTES).await?;
    Ok(message.map(|PublisherMessage::Part(part)| part))
}
