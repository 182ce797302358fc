//! The subscription to the configuration, on a stream of its own beside the events.

use super::status::ConfigStatus;
use super::target::LinkTarget;
use daemon::backoff::Backoff;
use domain::NodeId;
use edge_config::{
    CONFIG_PROTOCOL_VERSION, MAX_CONFIG_MESSAGE_BYTES, Outcome, PublisherMessage, Response,
    Subscribe, Subscriber, SubscriberMessage, UpdatePart,
};
use event_shipping::{read_message, write_message};
use quinn::{Connection, RecvStream, SendStream};
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

const RESUBSCRIBE: Backoff = Backoff::doubling(Duration::from_millis(100), Duration::from_secs(5));

/// Keeps the configuration up to date.
pub struct ConfigClient {
    /// This node.
    pub node: NodeId,
    /// The connection to the aggregator.
    pub connection: watch::Receiver<Option<Connection>>,
    /// What is in use.
    pub subscriber: Subscriber<LinkTarget>,
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
            let version = self.subscriber.held().version;
            let reason = match self.follow(&connection, applied).await {
                Ok(()) => "the aggregator closed the stream".to_owned(),
                Err(error) => error.to_string(),
            };
            self.status.subscribed(false);
            self.subscriber.disconnected();
            if self.subscriber.held().version > version {
                failures = 0;
            }
            failures += 1;
            let pause = RESUBSCRIBE.pause(failures);
            tracing::info!(
                reason,
                version = self.subscriber.held().version,
                retry_in = ?pause,
                "no subscription to the configuration; the last version stays in use"
            );
            sleep(pause).await;
        }
    }

    async fn follow(&mut self, connection: &Connection, applied: &impl Fn()) -> anyhow::Result<()> {
        let (mut send, mut receive) = connection.open_bi().await?;
        let subscribe = Subscribe {
            protocol: CONFIG_PROTOCOL_VERSION,
            node: self.node.0,
            held: self.subscriber.held(),
        };
        write_message(&mut send, &SubscriberMessage::Subscribe(subscribe)).await?;
        self.status.subscribed(true);
        while let Some(part) = read_part(&mut receive).await? {
            if let Some(response) = self.subscriber.receive(&part) {
                if response.outcome == Outcome::Applied {
                    applied();
                }
                self.respond(&mut send, response).await?;
            }
        }
        Ok(())
    }

    async fn respond(&self, send: &mut SendStream, response: Response) -> anyhow::Result<()> {
        let held = self.subscriber.held();
        self.status.responded(&response.outcome, held);
        match &response.outcome {
            Outcome::Applied => tracing::info!(version = held.version, "configuration applied"),
            Outcome::Refused { code, detail } => {
                tracing::error!(
                    code,
                    detail,
                    version = held.version,
                    "refused an update of the configuration; the last version stays in use"
                );
            }
        }
        write_message(send, &SubscriberMessage::Response(response)).await?;
        Ok(())
    }
}

async fn read_part(receive: &mut RecvStream) -> anyhow::Result<Option<UpdatePart>> {
    let message = read_message(receive, MAX_CONFIG_MESSAGE_BYTES).await?;
    Ok(message.map(|PublisherMessage::Part(part)| part))
}
