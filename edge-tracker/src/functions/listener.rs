//! Serves the internal API on a socket, for functions under Spin on this or another host: HTTP/1.1 on a thread of its
//! own, so that it delays no click. The meaning of messages belongs to `api`.

use super::api::{Api, Because as _, RefusedMessage, respond};
use super::prompt_ack::PromptAckStream;
use crate::settings::InternalApiSettings;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use socket2::SockRef;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracker_api::Problem;

/// The pause after a failed accept.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Far more than functions send.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The bound socket of the internal API.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    service: Service,
    connections: Arc<Semaphore>,
    open: IntGauge,
    /// How long messages in progress may take at shutdown.
    stop_timeout: Duration,
}

#[derive(Debug, Clone)]
struct Service {
    api: Api,
    requests: Arc<Semaphore>,
    max_message_bytes: usize,
    timeout: Duration,
}

impl Listener {
    /// Binds the address of `settings`.
    ///
    /// # Errors
    /// When it can't be bound.
    pub fn bind(
        settings: &InternalApiSettings,
        api: Api,
        open: IntGauge,
        stop_timeout: Duration,
    ) -> io::Result<Self> {
        let socket = std::net::TcpListener::bind(settings.listen)?;
        socket.set_nonblocking(true)?;
        let bytes = settings.max_message_bytes.get().0;
        Ok(Self {
            socket,
            service: Service {
                api,
                requests: Arc::new(Semaphore::new(settings.max_requests.get())),
                max_message_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
                timeout: settings.timeout.get().0,
            },
            connections: Arc::new(Semaphore::new(settings.max_connections.get())),
            open,
            stop_timeout,
        })
    }

    /// The bound address.
    ///
    /// # Errors
    /// When the system does not report it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop` turns true, then finishes messages in progress.
    ///
    /// # Errors
    /// When there is no runtime.
    pub fn run(self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.serve(stop))
    }

    async fn serve(self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let listener = TcpListener::from_std(self.socket)?;
        let mut stopping = stop.clone();
        let mut connections = JoinSet::new();
        loop {
            let (stream, permit) = tokio::select! {
                accepted = accept(&listener, &self.connections) => accepted,
                Some(_) = connections.join_next() => continue,
                _ = stopping.wait_for(|stops| *stops) => break,
            };
            self.open.inc();
            let (service, open, stop) = (self.service.clone(), self.open.clone(), stop.clone());
            connections.spawn(async move {
                if let Err(error) = serve_connection(stream, service, stop).await {
                    tracing::debug!(%error, "internal API connection ended early");
                }
                open.dec();
                drop(permit);
            });
        }
        drop(listener);
        let finished = async { while connections.join_next().await.is_some() {} };
        if timeout(self.stop_timeout, finished).await.is_err() {
            tracing::warn!("shutdown interrupted messages to the internal API");
        }
        Ok(())
    }
}

/// The next connection, once a permit is free; others wait in the accept queue.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = connections.clone().acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "failed to accept an internal API connection");
                sleep(ACCEPT_RETRY_INTERVAL).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    service: Service,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    // Against clients that do not read the response.
    SockRef::from(&stream).set_tcp_user_timeout(Some(service.timeout))?;
    let mut http = http1::Builder::new();
    // Also limits how long a connection may be idle.
    http.timer(TokioTimer::new())
        .header_read_timeout(service.timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    let respond = service_fn(async |request| Ok::<_, Infallible>(service.respond(request).await));
    let mut served = pin!(http.serve_connection(TokioIo::new(PromptAckStream(stream)), respond));
    tokio::select! {
        served = served.as_mut() => return Ok(served?),
        _ = stop.wait_for(|stops| *stops) => {}
    }
    served.as_mut().graceful_shutdown();
    Ok(served.await?)
}

impl Service {
    async fn respond(&self, request: Request<Incoming>) -> http::Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        // HeldVersion until the message is durable.
        let mut held = None;
        let message = async {
            self.api.require_clock()?;
            let permit = self.requests.try_acquire();
            held = Some(permit.map_err(|_| {
                Problem::TooManyMessages.because("the limit of simultaneous messages is reached")
            })?);
            self.read(body).await
        };
        let taken = self.api.accept(&head, message).await;
        respond(taken).map(Full::new)
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, RefusedMessage> {
        let read = Limited::new(body, self.max_message_bytes).collect();
        let Ok(read) = timeout(self.timeout, read).await else {
            return Err(Problem::MessageTooSlow.because("the body was not received in time"));
        };
        let body = read.map_err(|error| match error.is::<LengthLimitError>() {
            true => Problem::MessageTooLarge
                .because(format!("at most {} bytes", self.max_message_bytes)),
            false => Problem::MalformedMessage.because(error.to_string()),
        })?;
        Ok(body.to_bytes())
    }
}
