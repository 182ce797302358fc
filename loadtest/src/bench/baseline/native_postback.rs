//! The postback function compiled natively, in a server without any other work. An accepted postback becomes the
//! same event in a journal's lane; the response is sent once it is durable.

use anyhow::Context as _;
use bytes::Bytes;
use domain::{ConversionKind, ConversionStatus, Currency, Micros, Money};
use event_journal::{LaneWriter, Options};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use postback::{Decision, Keys, Postback};
use std::cell::RefCell;
use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tracker_api::Conversion;
use tracking_events::{ClickId, Event, FORMAT_VERSION, MAX_EVENT_BYTES};

/// File names in the server's directory: the advertiser, the click id keys, and the journal.
pub(in crate::bench) const ADVERTISER: &str = "advertiser.json";
pub(in crate::bench) const KEYS: &str = "click-id-keys";
pub(in crate::bench) const JOURNAL: &str = "journal";

struct Native {
    keys: Keys,
    advertiser: Vec<u8>,
    lane: RefCell<LaneWriter>,
}

pub(super) fn serve(listener: TcpListener, dir: &Path) -> anyhow::Result<()> {
    let read =
        |name| fs::read(dir.join(name)).with_context(|| dir.join(name).display().to_string());
    let keys = String::from_utf8(read(KEYS)?)?;
    // The defaults of an edge.
    let mut journal = event_journal::open(&Options {
        dir: dir.join(JOURNAL),
        lanes: 1,
        format_version: FORMAT_VERSION,
        segment_bytes: 32 << 20,
        max_bytes: 8 << 30,
        sync_interval: Duration::from_millis(500),
    })?;
    let lane = journal.writers.pop().context("one lane")?;
    let sync = lane.sync_request();
    let native = Rc::new(Native {
        keys: Keys::parse(&keys).context("the click id keys are invalid")?,
        advertiser: read(ADVERTISER)?,
        lane: RefCell::new(lane),
    });
    Builder::new_current_thread()
        .on_thread_park(move || {
            // Like an edge: once no more requests are ready.
            let _ = sync.send();
        })
        .enable_all()
        .build_local(LocalOptions::default())?
        .block_on(accept(listener, native))
}

async fn accept(listener: TcpListener, native: Rc<Native>) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (native, client) = (native.clone(), peer.ip());
        let response = service_fn(move |request| {
            let native = native.clone();
            async move { Ok::<_, Infallible>(native.response(client, request).await) }
        });
        tokio::task::spawn_local(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), response),
        );
    }
}

impl Native {
    async fn response(&self, client: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(request) = read(client, request).await else {
            return response(StatusCode::BAD_REQUEST, String::new());
        };
        let postback = match Postback::read(&request) {
            Ok(postback) => postback,
            Err(refused) => return response(StatusCode::BAD_REQUEST, refused.body),
        };
        let (entry, now) = (Some(self.advertiser.as_slice()), Micros::now());
        match postback.decide(postback.key(), entry, &self.keys, now, |_| None) {
            Decision::Accept(sale, text) => match self.durable(&sale, now).await {
                Some(()) => response(StatusCode::OK, text),
                None => response(StatusCode::SERVICE_UNAVAILABLE, String::new()),
            },
            Decision::Acknowledge(text) => response(StatusCode::OK, text),
            Decision::Refuse(refused) => response(StatusCode::BAD_REQUEST, refused.body),
        }
    }

    /// Appends the event that an edge would append for `sale`, and returns when it is durable.
    async fn durable(&self, sale: &Conversion<'_>, time: Micros) -> Option<()> {
        let address: IpAddr = sale.address.parse().ok()?;
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let event = Event::Conversion(tracking_events::Conversion {
            time,
            advertiser: &sale.advertiser,
            click: ClickId::parse(sale.click_id.as_bytes()).ok()?,
            kind: ConversionKind::from_name(&sale.kind)?,
            kind_name: &sale.kind_name,
            transaction: &sale.transaction,
            status: ConversionStatus::from_name(&sale.status)?,
            payout: Money {
                minor: sale.payout_minor,
                currency: Currency(sale.currency.as_bytes().try_into().ok()?),
            },
            dialect: &sale.dialect,
            address: address.octets(),
            stated: tracking_events::Stated::ALL,
            signed: None,
            payout_as_sent: "",
        });
        let (done, synced) = oneshot::channel();
        {
            let mut lane = self.lane.borrow_mut();
            let appended = lane.append(MAX_EVENT_BYTES, |wait_for_room| {
                tracking_events::encode(&event, wait_for_room).ok()
            });
            lane.when_durable(appended.ok()?, |outcome| {
                // The connection may be closed already.
                let _ = done.send(outcome);
            });
        }
        synced.await.ok()?.ok()
    }
}

/// Reads the request as the component does.
async fn read(client: IpAddr, request: Request<Incoming>) -> Option<postback::Request> {
    let headers = request.headers().iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    Some(postback::Request {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        client: Some(client),
        body: request
            .into_body()
            .collect()
            .await
            .ok()?
            .to_bytes()
            .to_vec(),
        broken: false,
    })
}

fn response(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
