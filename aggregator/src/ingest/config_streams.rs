//! Further streams of an edge's connection, on which it subscribes to its configuration.

use super::peer::Peer;
use crate::configuration::{Configuration, Subscription};
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

/// Serves these streams, one at a time, until the connection ends. Without a configuration it closes each.
pub(super) async fn serve(
    connection: &Connection,
    peer: &Peer,
    configuration: Option<&Configuration>,
) -> Infallible {
    while let Ok((send, receive)) = connection.accept_bi().await {
        let Some(configuration) = configuration else {
            tracing::warn!(
                "an edge asks for its configuration, which this aggregator does not have; set [control_plane]"
            );
            continue;
        };
        let Err(error) = serve_stream(send, receive, peer, configuration).await;
        tracing::info!(%error, "the subscription of an edge to its configuration ended");
    }
    // The stream of events ends as well.
    std::future::pending().await
}

async fn serve_stream(
    mut send: SendStream,
    mut receive: RecvStream,
    peer: &Peer,
    configuration: &Configuration,
) -> anyhow::Result<Infallible> {
    let subscribe = timeout(SUBSCRIBE_TIMEOUT, read_subscribe(&mut receive)).await??;
    if peer.authorize(subscribe.node).is_err() {
        anyhow::bail!("its certificate does not name node {}", subscribe.node);
    }
    let node = NodeId(subscribe.node);
    let mut subscription = Subscription::begin(configuration.clone(), node, subscribe.held).await;
    tracing::info!(
        version = subscribe.held.version,
        "an edge subscribed to its configuration"
    );
    let mut nonce = 0;
    loop {
        nonce += 1;
        let update = tokio::select! {
            update = subscription.next_update() => update,
            // An edge that begins again needs the place of this stream.
            _ = send.stopped() => anyhow::bail!("the edge closed the stream"),
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
        subscription.responded(&update, &outcome);
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
