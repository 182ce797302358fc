//! One call of a function: from the request to the last part of its answer, within its limits.

use crate::Failure;
use crate::body::{Body, BodyError};
use crate::cpu::{Budget, Charged};
use crate::guest::Guest;
use crate::host::{Function, Limits};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use wasmtime::component::Accessor;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::p3::Request as GuestRequest;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView as _};

/// Parts of an answer that wait for the client.
const PARTS: usize = 4;
/// An answer up to this size that is made at once is sent at once, in bytes.
const AT_ONCE: usize = 16 << 10;

/// A component's instance with all that is its own.
pub(crate) struct Instance {
    store: Store<Guest>,
    service: Service,
    calls: u32,
}

/// Where the head of the answer goes, and as much of its body as is there.
pub(crate) type Answer = oneshot::Sender<Response<Body>>;

/// A request as functions take it.
pub(crate) struct Asked {
    pub(crate) request: Request<WasiBody>,
    /// Whether its body turned out longer than allowed.
    pub(crate) too_large: Arc<AtomicBool>,
}

/// Answers `asked` within `budget`. What failed before the head of the answer was sent is to be answered instead.
pub(crate) async fn run(
    function: &Function,
    budget: Arc<Budget>,
    asked: Asked,
    answer: Answer,
) -> Result<(), Failure> {
    let limits = &function.limits;
    let Asked { request, too_large } = asked;
    let mut instance = None;
    let work = Charged {
        budget: budget.clone(),
        future: Box::pin(async {
            let ready = instance.insert(function.instance(budget).await?);
            converse(ready, limits, request, answer).await
        }),
    };
    let worked = timeout(limits.wall, work).await;
    let outcome = match worked {
        Ok(outcome) => outcome,
        Err(_) => Err(Stopped::Failed(Failure::TimedOut)),
    };
    let failure = match outcome {
        Ok(()) => {
            if let Some(instance) = instance {
                function.give_back(instance);
            }
            return Ok(());
        }
        Err(_) if too_large.load(Ordering::Relaxed) => Failure::RequestTooLarge,
        Err(stopped) => explain(function, stopped, instance.as_ref()),
    };
    Err(failure)
}

/// Why a call ended early.
pub(crate) enum Stopped {
    Failed(Failure),
    /// wasmtime's word; what it says is for the log only.
    Engine(wasmtime::Error),
    /// The function answered with an error.
    Answered(String),
    NotStarted(wasmtime::Error),
}

impl From<wasmtime::Error> for Stopped {
    fn from(error: wasmtime::Error) -> Self {
        Self::Engine(error)
    }
}

fn explain(function: &Function, stopped: Stopped, instance: Option<&Instance>) -> Failure {
    let guest = instance.map(|instance| instance.store.data());
    let (failure, cause) = match stopped {
        Stopped::Failed(failure) => (failure, String::new()),
        Stopped::NotStarted(error) => (Failure::NotStarted, format!("{error:#}")),
        Stopped::Answered(error) => (Failure::NoAnswer, error),
        Stopped::Engine(error) => {
            let failure = match guest {
                Some(guest) if guest.cpu_exhausted => Failure::CpuExhausted,
                Some(guest) if guest.memory.exhausted => Failure::MemoryExhausted,
                _ => Failure::Trapped,
            };
            (failure, format!("{error:#}"))
        }
    };
    let stderr = guest.map(Guest::stderr).unwrap_or_default();
    let reason = failure.name();
    if failure == Failure::ClientGone {
        tracing::debug!(function = function.name, reason, "a call was given up");
    } else {
        tracing::warn!(
            function = function.name,
            reason,
            cause,
            stderr,
            "a call failed"
        );
    }
    failure
}

impl Instance {
    pub(crate) async fn start(function: &Function, budget: Arc<Budget>) -> Result<Self, Stopped> {
        let guest = function.guest(budget);
        let mut store = Store::new(function.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let guest = store.data_mut();
            if guest.budget.is_spent() {
                guest.cpu_exhausted = true;
                Ok(UpdateDeadline::Interrupt)
            } else {
                Ok(UpdateDeadline::Yield(1))
            }
        });
        let service = function.pre.instantiate_async(&mut store).await;
        Ok(Self {
            service: service.map_err(Stopped::NotStarted)?,
            store,
            calls: 0,
        })
    }

    /// Makes it ready for another call.
    pub(crate) fn again(mut self, budget: Arc<Budget>) -> Self {
        self.store.data_mut().budget = budget;
        self.calls += 1;
        self
    }

    /// How often it has been used again.
    pub(crate) const fn calls(&self) -> u32 {
        self.calls
    }
}

/// Tells whether the request's body could be read to its end.
type Io = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

async fn converse(
    instance: &mut Instance,
    limits: &Limits,
    request: Request<WasiBody>,
    mut answer: Answer,
) -> Result<(), Stopped> {
    let Instance { store, service, .. } = instance;
    let talk = async |guest: &Accessor<Guest>| {
        let (request, io) = guest.with(|mut it| {
            let (request, io) = GuestRequest::from_http(it.get().http().hooks, request);
            (request, Box::pin(io) as Io)
        });
        let response = tokio::select! {
            biased;
            handled = service.handle(guest, request) => {
                handled?.map_err(|code| Stopped::Answered(format!("{code:?}")))?
            }
            () = answer.closed() => return Err(Stopped::Failed(Failure::ClientGone)),
        };
        let response = guest.with(|it| response.into_http(it, io))?;
        deliver(response, limits, answer).await
    };
    store.run_concurrent(talk).await?
}

/// Sends the answer on, part by part.
async fn deliver(
    response: Response<UnsyncBoxBody<Bytes, Error>>,
    limits: &Limits,
    answer: Answer,
) -> Result<(), Stopped> {
    let (parts, mut body) = response.into_parts();
    let broken = |error: Error| Stopped::Answered(format!("{error}"));
    let gone = Stopped::Failed(Failure::ClientGone);
    // Most answers are one part.
    let first = next(&mut body).await.map_err(broken)?;
    let mut sent = first.as_ref().map_or(0, Bytes::len);
    let second = match &first {
        Some(first) if first.len() <= AT_ONCE => next(&mut body).await.map_err(broken)?,
        _ => None,
    };
    let ended = first.as_ref().is_none_or(|first| first.len() <= AT_ONCE) && second.is_none();
    if sent > limits.response_bytes {
        return Err(Stopped::Failed(Failure::ResponseTooLarge));
    }
    if ended {
        let body = Body::full(first.unwrap_or_default());
        let head = Response::from_parts(parts, body);
        return answer.send(head).map_err(|_| gone);
    }
    let (to_client, received) = mpsc::channel(PARTS);
    let head = Response::from_parts(parts, Body::parts(received));
    answer.send(head).map_err(|_| gone)?;
    for part in [first, second].into_iter().flatten() {
        send(&to_client, part).await?;
    }
    loop {
        let part = match next(&mut body).await {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(()),
            Err(error) => {
                let _ = to_client.send(Err(BodyError)).await;
                return Err(broken(error));
            }
        };
        sent += part.len();
        if sent > limits.response_bytes {
            let _ = to_client.send(Err(BodyError)).await;
            return Err(Stopped::Failed(Failure::ResponseTooLarge));
        }
        send(&to_client, part).await?;
    }
}

async fn send(to_client: &mpsc::Sender<crate::body::Part>, part: Bytes) -> Result<(), Stopped> {
    let sent = to_client.send(Ok(http_body::Frame::data(part))).await;
    sent.map_err(|_| Stopped::Failed(Failure::ClientGone))
}

/// The next bytes; trailers are left out.
async fn next(body: &mut UnsyncBoxBody<Bytes, Error>) -> Result<Option<Bytes>, Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
