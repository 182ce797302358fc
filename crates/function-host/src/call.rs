//! One call of a function, from the request to the end of its response, within its limits.

use crate::cpu::{CpuBudget, MeteredFuture};
use crate::function::Function;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::response_body::{Body, BodyPart};
use crate::response_sender::ResponseSender;
use crate::{Failure, Limits};
use bytes::Bytes;
use http::{Request, Response, Uri, response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{Instrument as _, trace_span};
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::Request as GuestRequest;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView as _};

/// Parts of a streamed response that wait for the client.
const MAX_QUEUED_PARTS: usize = 4;
/// Up to this length of its first part, the second is awaited too: most responses end there, and are then sent whole.
const MAX_AWAITED_PART_BYTES: usize = 16 << 10;

/// Handles `request` within `budget`. If the call fails before it sends the head of a response, the caller has to
/// respond.
pub(crate) async fn run(
    function: &Function,
    budget: Arc<CpuBudget>,
    request: Request<WasiBody>,
    sender: ResponseSender,
) -> Result<(), Failure> {
    let mut instance = None;
    // The target that `daemon` exports; this crate does not know the daemon.
    let span = trace_span!(target: "traced", "call function", function = function.name);
    let call = run_in_instance(function, budget, &mut instance, request, sender);
    let outcome = call.instrument(span).await;
    let stderr = instance.as_ref().map(|it| it.store.data().take_stderr());
    let stderr = stderr.unwrap_or_default();
    if let Err(error) = outcome {
        return Err(log_failure(function, error, instance.as_ref(), &stderr));
    }
    if !stderr.is_empty() {
        tracing::warn!(function = function.name, stderr, "function wrote to stderr");
    }
    if let Some(instance) = instance.filter(|it| function.will_reuse(it)) {
        function.return_instance(instance);
    }
    Ok(())
}

/// Calls `/` of the function. Any response is a success: the function can be called.
///
/// # Errors
/// Why the call failed.
pub(crate) async fn smoke_test(function: &Function) -> Result<(), String> {
    let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *request.uri_mut() = Uri::from_static("/");
    let (sender, receiver) = ResponseSender::new();
    let read = async {
        if let Ok(response) = receiver.await {
            // The body's content does not matter.
            let _ = response.into_body().collect().await;
        }
    };
    let mut instance = None;
    let budget = CpuBudget::new(function.limits.cpu);
    let call = run_in_instance(function, budget, &mut instance, request, sender);
    let (outcome, ()) = tokio::join!(call, read);
    outcome.map_err(|error| {
        let (failure, cause) = classify(error, instance.as_ref());
        format!("{} {cause}", failure.name())
    })
}

async fn run_in_instance(
    function: &Function,
    budget: Arc<CpuBudget>,
    instance: &mut Option<Instance>,
    request: Request<WasiBody>,
    sender: ResponseSender,
) -> Result<(), CallError> {
    let call = MeteredFuture {
        budget: budget.clone(),
        future: Box::pin(async {
            let started = function.instance(budget).await;
            let instance = instance.insert(started.map_err(CallError::NotStarted)?);
            handle(instance, function, request, sender).await
        }),
    };
    let done = timeout(function.limits.wall, call).await;
    done.unwrap_or(Err(CallError::Failed(Failure::TimedOut)))
}

/// Why a call ended early.
enum CallError {
    Failed(Failure),
    /// An error of wasmtime; its text is only logged.
    Engine(wasmtime::Error),
    /// An error that the function returned, or its response's body.
    Returned(String),
    NotStarted(wasmtime::Error),
}

impl From<wasmtime::Error> for CallError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Engine(error)
    }
}

/// The reason, and the cause for the log.
fn classify(error: CallError, instance: Option<&Instance>) -> (Failure, String) {
    match error {
        CallError::Failed(failure) => (failure, String::new()),
        CallError::NotStarted(error) => (Failure::NotStarted, format!("{error:#}")),
        CallError::Returned(error) => (Failure::NoResponse, error),
        CallError::Engine(error) => {
            let guest = instance.map(|instance| instance.store.data());
            let failure = match guest {
                Some(guest) if guest.cpu_exhausted => Failure::CpuExhausted,
                Some(guest) if guest.memory.exhausted => Failure::MemoryExhausted,
                _ => Failure::Trapped,
            };
            (failure, format!("{error:#}"))
        }
    }
}

fn log_failure(
    function: &Function,
    error: CallError,
    instance: Option<&Instance>,
    stderr: &str,
) -> Failure {
    let (failure, cause) = classify(error, instance);
    let (function, reason) = (function.name.as_str(), failure.name());
    if failure == Failure::ClientGone {
        tracing::debug!(function, reason, "function call cancelled by its client");
    } else {
        tracing::warn!(function, reason, cause, stderr, "function call failed");
    }
    failure
}

/// Completes when the request's body was passed on, or could not be.
type RequestTransfer = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

async fn handle(
    instance: &mut Instance,
    function: &Function,
    request: Request<WasiBody>,
    mut sender: ResponseSender,
) -> Result<(), CallError> {
    let will_reuse = function.will_reuse(instance);
    let Instance { store, service, .. } = instance;
    let exchange = async |guest: &Accessor<Guest>| {
        let (request, transfer) = guest.with(|mut it| {
            let (request, transfer) = GuestRequest::from_http(it.get().http().hooks, request);
            (request, Box::pin(transfer) as RequestTransfer)
        });
        let start = async {
            let handled = service.handle(guest, request).await?;
            let response = handled.map_err(|code| CallError::Returned(format!("{code:?}")))?;
            let response = guest.with(|it| response.into_http(it, transfer))?;
            read_start(response).await
        };
        let start = tokio::select! {
            biased;
            start = start => start?,
            () = sender.closed() => return Err(CLIENT_GONE),
        };
        send_response(start, &function.limits, sender).await?;
        if will_reuse {
            // Work that the function still does belongs to this call and its limits.
            poll_fn(|cx| guest.poll_no_interesting_tasks(cx)).await;
        }
        Ok(())
    };
    store.run_concurrent(exchange).await?
}

const CLIENT_GONE: CallError = CallError::Failed(Failure::ClientGone);

/// The start of a response, as much as is awaited before any of it is sent.
struct ResponseStart {
    head: response::Parts,
    parts: [Option<Bytes>; 2],
    /// `None` when the body has ended.
    rest: Option<UnsyncBoxBody<Bytes, Error>>,
}

async fn read_start(
    response: Response<UnsyncBoxBody<Bytes, Error>>,
) -> Result<ResponseStart, CallError> {
    let (head, mut body) = response.into_parts();
    let first = next_part(&mut body).await?;
    let is_short = first
        .as_ref()
        .is_some_and(|it| it.len() <= MAX_AWAITED_PART_BYTES);
    let second = if is_short {
        next_part(&mut body).await?
    } else {
        None
    };
    let has_ended = first.is_none() || is_short && second.is_none();
    Ok(ResponseStart {
        head,
        parts: [first, second],
        rest: (!has_ended).then_some(body),
    })
}

/// Sends the response: whole if its body has ended, else part by part.
async fn send_response(
    start: ResponseStart,
    limits: &Limits,
    sender: ResponseSender,
) -> Result<(), CallError> {
    let ResponseStart { head, parts, rest } = start;
    let mut sent_bytes = 0;
    let mut check_length = |part: &Bytes| {
        sent_bytes += part.len();
        let fits = sent_bytes <= limits.response_bytes;
        fits.then_some(())
            .ok_or(CallError::Failed(Failure::ResponseTooLarge))
    };
    parts.iter().flatten().try_for_each(&mut check_length)?;
    let mut parts = parts.into_iter().flatten();
    let Some(mut rest) = rest else {
        let body = Body::full(parts.next().unwrap_or_default());
        let whole = Response::from_parts(head, body);
        return sender.send(whole).then_some(()).ok_or(CLIENT_GONE);
    };
    let (to_client, received) = mpsc::channel(MAX_QUEUED_PARTS);
    let head = Response::from_parts(head, Body::streamed(received));
    sender.send(head).then_some(()).ok_or(CLIENT_GONE)?;
    let send = async |part| to_client.send(part).await.map_err(|_| CLIENT_GONE);
    for part in parts {
        send(BodyPart::Data(part)).await?;
    }
    loop {
        let part = tokio::select! {
            biased;
            part = next_part(&mut rest) => part?,
            () = to_client.closed() => return Err(CLIENT_GONE),
        };
        let Some(part) = part else {
            return send(BodyPart::End).await;
        };
        check_length(&part)?;
        send(BodyPart::Data(part)).await?;
    }
}

/// The next non-empty part. Trailers are dropped.
async fn next_part(body: &mut UnsyncBoxBody<Bytes, Error>) -> Result<Option<Bytes>, CallError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CallError::Returned(error.to_string()))?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
