//! A server of a ClickHouse cluster in front of an engine without Keeper.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;

/// The response to one of this many inserts is lost.
const LOST_RESPONSE_INTERVAL: u64 = 3;

pub struct ClusterServer {
    pub url: String,
    inserts: Arc<AtomicU64>,
}

struct Engines {
    cluster: &'static str,
    /// The engine of this server, then the others.
    urls: [String; 2],
    client: Client<HttpConnector, Full<Bytes>>,
    inserts: Arc<AtomicU64>,
}

impl ClusterServer {
    /// Statements for the cluster go to all engines, others to the first.
    pub async fn start(cluster: &'static str, urls: [String; 2]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let inserts = Arc::<AtomicU64>::default();
        let engines = Arc::new(Engines {
            cluster,
            urls,
            client: Client::builder(TokioExecutor::new()).build_http(),
            inserts: Arc::clone(&inserts),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let engines = Arc::clone(&engines);
                let service = service_fn(move |request| {
                    let engines = Arc::clone(&engines);
                    async move { engines.answer(request).await }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A lost response ends it with an error.
                tokio::spawn(async move { connection.await.ok() });
            }
        });
        Self { url, inserts }
    }

    /// The number of inserts that have reached this server.
    pub fn inserts(&self) -> u64 {
        self.inserts.load(Ordering::Relaxed)
    }
}

impl Engines {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let is_insert = parts
            .uri
            .query()
            .is_some_and(|query| query.contains("INSERT"));
        let on_cluster = format!(" ON CLUSTER {}", self.cluster);
        let Some(statement) = std::str::from_utf8(&body)
            .ok()
            .filter(|text| text.contains(&on_cluster))
        else {
            let response = self.forward(&self.urls[0], &parts, body).await?;
            let number = self
                .inserts
                .fetch_add(u64::from(is_insert), Ordering::Relaxed);
            if is_insert && number.is_multiple_of(LOST_RESPONSE_INTERVAL) {
                anyhow::bail!("this response is lost");
            }
            return Ok(response);
        };
        let statement = Bytes::from(without_keeper(&statement.replace(&on_cluster, "")));
        for url in &self.urls[1..] {
            let response = self.forward(url, &parts, statement.clone()).await?;
            if !response.status().is_success() {
                return Ok(response);
            }
        }
        self.forward(&self.urls[0], &parts, statement).await
    }

    async fn forward(
        &self,
        url: &str,
        parts: &hyper::http::request::Parts,
        body: Bytes,
    ) -> anyhow::Result<Response<Full<Bytes>>> {
        let target = parts.uri.path_and_query().map_or("/", |it| it.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = format!("{url}{target}").parse()?;
        *request.headers_mut() = parts.headers.clone();
        for framing in [
            header::HOST,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
        ] {
            request.headers_mut().remove(framing);
        }
        let (mut parts, body) = self.client.request(request).await?.into_parts();
        parts.headers.remove(header::TRANSFER_ENCODING);
        Ok(Response::from_parts(
            parts,
            Full::new(body.collect().await?.to_bytes()),
        ))
    }
}

/// The statement with ordinary tables for replicated ones.
fn without_keeper(statement: &str) -> String {
    statement
        .replace("('/clickhouse/tables/{uuid}/all', '{shard}-{replica}')", "")
        .replace("ENGINE = Replicated", "ENGINE = ")
        .replace(", replicated_deduplication_window_seconds = 604800", "")
        .replace(
            "replicated_deduplication_window = ",
            "non_replicated_deduplication_window = ",
        )
}
