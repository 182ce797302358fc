//! One edge's subscription to its configuration.

use super::Configuration;
use crate::ingest::Peer;
use domain::NodeId;
use edge_config::{
    CONFIG_PROTOCOL_VERSION, Outcome, PublisherMessage, Response, Subscribe, SubscriberMessage,
    Update,
};
use event_shipping::{MAX_CONTROL_MESSAGE_BYTES, read_message, write_message};
use quinn::{Connection, RecvStream, SendStream};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

/// The limit for the first message on a stream.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit for the response to an update: the edge writes it to its disk.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// Serves the further streams of an edge's connection, one at a time, until the connection ends. Without a
/// configuration it closes each.
pub(crate) async fn serve_streams(
    connection: &Connection,
    peer: &Peer,
    configuration: Option<&Configuration>,
) -> Infallible {
    while let Ok((send, receive)) = connection.accept_bi().await {
        let Some(configuration) = configuration else {
            tracing::debug!(
                "an edge asks for its configuration, and the role api is not served here"
            );
            continue;
        };
        if let Err(error) = serve(send, receive, peer, configuration).await {
            tracing::info!(%error, "the subscription of an edge to its configuration ended");
        }
    }
    // The stream of events ends as well.
    std::future::pending().await
}

async fn serve(
    mut send: SendStream,
    mut receive: RecvStream,
    peer: &Peer,
    configuration: &Configuration,
) -> anyhow::Result<()> {
    let subscribe = timeout(SUBSCRIBE_TIMEOUT, read_subscribe(&mut receive)).await??;
    if peer.authorize(subscribe.node).is_err() {
        anyhow::bail!("its certificate does not name node {}", subscribe.node);
    }
    let node = NodeId(subscribe.node);
    let mut changed = configuration.changed.subscribe();
    while configuration.published().is_none() {
        changed.changed().await?;
    }
    let _subscription = Subscription::begin(configuration, node, subscribe);
    tracing::info!(
        version = subscribe.held.version,
        "an edge subscribed to its configuration"
    );
    for nonce in 1.. {
        let update = loop {
            changed.mark_unchanged();
            match configuration.update_for(node) {
                Some(update) => break update,
                None => changed.changed().await?,
            }
        };
        send_parts(&mut send, &update, nonce).await?;
        let response = read_response(&mut receive, nonce);
        let outcome = timeout(RESPONSE_TIMEOUT, response).await??;
        if let Outcome::Refused { code, detail } = &outcome {
            tracing::error!(
                alert = true,
                version = update.version(),
                code,
                detail,
                "an edge refused its configuration and keeps the version before"
            );
        }
        configuration.responded(node, &update, &outcome);
    }
    Ok(())
}

/// An edge that is subscribed until this is dropped.
struct Subscription<'a> {
    configuration: &'a Configuration,
    node: NodeId,
}

impl<'a> Subscription<'a> {
    fn begin(configuration: &'a Configuration, node: NodeId, subscribe: Subscribe) -> Self {
        let mut publisher = configuration.publisher.lock();
        if let Some(publisher) = &mut *publisher {
            publisher.subscribed(node, subscribe.held);
        }
        configuration.report(publisher);
        Self {
            configuration,
            node,
        }
    }
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        let mut publisher = self.configuration.publisher.lock();
        if let Some(publisher) = &mut *publisher {
            publisher.unsubscribed(self.node);
        }
        self.configuration.report(publisher);
    }
}

async fn read_subscribe(receive: &mut RecvStream) -> anyhow::Result<Subscribe> {
    match read_message(receive, MAX_CONTROL_MESSAGE_BYTES).await? {
        Some(SubscriberMessage::Subscribe(subscribe))
            if subscribe.protocol == CONFIG_PROTOCOL_VERSION =>
        {
            Ok(subscribe)
        }
        Some(SubscriberMessage::Subscribe(Subscribe { protocol, .. })) => anyhow::bail!(
            "protocol {protocol} of the configuration is not supported, only {CONFIG_PROTOCOL_VERSION}"
        ),
        Some(SubscriberMessage::Response(_)) => anyhow::bail!("a response before any update"),
        None => anyhow::bail!("closed before the subscription"),
    }
}

async fn send_parts(send: &mut SendStream, update: &Update, nonce: u64) -> anyhow::Result<()> {
    for part in update.parts(nonce) {
        write_message(send, &PublisherMessage::Part(part?)).await?;
    }
    Ok(())
}

async fn read_response(receive: &mut RecvStream, nonce: u64) -> anyhow::Result<Outcome> {
    match read_message(receive, MAX_CONTROL_MESSAGE_BYTES).await? {
        Some(SubscriberMessage::Response(Response { nonce: it, outcome })) if it == nonce => {
            Ok(outcome)
        }
        Some(other) => anyhow::bail!("{other:?} is no response to update {nonce}"),
        None => anyhow::bail!("closed before the response to update {nonce}"),
    }
}
