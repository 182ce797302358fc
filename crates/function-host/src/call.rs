//! One call of a function: from the request to the last part of its answer, within its limits.

use crate::Failure;
use crate::answer::{self, Answer};
use crate::body::{Body, Part};
use crate::cpu::{Budget, Charged};
use crate::guest::Guest;
use crate::host::{Function, Limits};
use bytes::Bytes;
use http::{Request, Response, Uri, response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
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

/// What a function may hand to the host at once, beside bodies, in bytes.
const MAX_HANDED_OVER: usize = 1 << 20;
/// What wasmtime keeps for a function: handles, and tasks, streams and the like.
const MAX_HANDLES: usize = 1_000;

/// A component's instance with all that is its own.
pub(crate) struct Instance {
    store: Store<Guest>,
    service: Service,
    calls: u32,
}

/// Answers `request` within `budget`. What failed before the head of the answer was sent is to be answered
/// instead.
pub(crate) async fn run(
    function: &Function,
    budget: Arc<Budget>,
    request: Request<WasiBody>,
    answer: Answer,
) -> Result<(), Failure> {
    let mut instance = None;
    let outcome = attempt(function, budget, &mut instance, request, answer).await;
    let stderr = instance.as_ref().map(|it| it.store.data().stderr());
    let stderr = stderr.unwrap_or_default();
    if let Err(stopped) = outcome {
        return Err(explain(function, stopped, instance.as_ref(), &stderr));
    }
    if !stderr.is_empty() {
        tracing::warn!(function = function.name, stderr, "a function complained");
    }
    if let Some(instance) = instance.filter(|it| function.keeps(it)) {
        function.give_back(instance);
    }
    Ok(())
}

/// Calls it for nobody: whatever it answers, it can be called. Tells why not.
pub(crate) async fn try_out(function: &Function) -> Result<(), String> {
    let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *request.uri_mut() = Uri::from_static("/");
    let (answer, answered) = Answer::new();
    let read = async {
        if let Ok(answer) = answered.await {
            // Only that there is one matters.
            let _ = answer.into_body().collect().await;
        }
    };
    let mut instance = None;
    let budget = Budget::new(function.limits.cpu);
    let attempt = attempt(function, budget, &mut instance, request, answer);
    let (outcome, ()) = tokio::join!(attempt, read);
    outcome.map_err(|stopped| {
        let (failure, cause) = judge(stopped, instance.as_ref());
        format!("{} {cause}", failure.name())
    })
}

async fn attempt(
    function: &Function,
    budget: Arc<Budget>,
    instance: &mut Option<Instance>,
    request: Request<WasiBody>,
    answer: Answer,
) -> Result<(), Stopped> {
    let work = Charged {
        budget: budget.clone(),
        future: Box::pin(async {
            let ready = instance.insert(function.instance(budget).await?);
            converse(ready, function, request, answer).await
        }),
    };
    let worked = timeout(function.limits.wall, work).await;
    worked.unwrap_or(Err(Stopped::Failed(Failure::TimedOut)))
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

/// The reason, and what is for the log only.
fn judge(stopped: Stopped, instance: Option<&Instance>) -> (Failure, String) {
    match stopped {
        Stopped::Failed(failure) => (failure, String::new()),
        Stopped::NotStarted(error) => (Failure::NotStarted, format!("{error:#}")),
        Stopped::Answered(error) => (Failure::NoAnswer, error),
        Stopped::Engine(error) => {
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

fn explain(
    function: &Function,
    stopped: Stopped,
    instance: Option<&Instance>,
    stderr: &str,
) -> Failure {
    let (failure, cause) = judge(stopped, instance);
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
        store.set_hostcall_fuel(MAX_HANDED_OVER);
        store.set_max_component_handles(MAX_HANDLES);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(MAX_HANDLES);
        }
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            // Whatever computes for long must not keep others' answers.
            answer::hand_over();
            let guest = store.data_mut();
            if guest.budget.charge() {
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
        self.store.data_mut().begin(budget);
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
    function: &Function,
    request: Request<WasiBody>,
    mut answer: Answer,
) -> Result<(), Stopped> {
    let keeps = function.keeps(instance);
    let Instance { store, service, .. } = instance;
    let talk = async |guest: &Accessor<Guest>| {
        let (request, io) = guest.with(|mut it| {
            let (request, io) = GuestRequest::from_http(it.get().http().hooks, request);
            (request, Box::pin(io) as Io)
        });
        let beginning = async {
            let handled = service.handle(guest, request).await?;
            let response = handled.map_err(|code| Stopped::Answered(format!("{code:?}")))?;
            let response = guest.with(|it| response.into_http(it, io))?;
            begin(response).await
        };
        let begun = tokio::select! {
            biased;
            begun = beginning => begun?,
            () = answer.closed() => return Err(GONE),
        };
        deliver(begun, &function.limits, answer).await?;
        if keeps {
            // What it still does belongs to this call, and its time.
            poll_fn(|cx| guest.poll_no_interesting_tasks(cx)).await;
        }
        Ok(())
    };
    store.run_concurrent(talk).await?
}

/// Who asked does not want the answer any more.
const GONE: Stopped = Stopped::Failed(Failure::ClientGone);

/// The beginning of an answer, as much as is waited for before any of it is sent.
struct Begun {
    head: response::Parts,
    parts: [Option<Bytes>; 2],
    /// None when that was all.
    rest: Option<UnsyncBoxBody<Bytes, Error>>,
}

async fn begin(response: Response<UnsyncBoxBody<Bytes, Error>>) -> Result<Begun, Stopped> {
    let (head, mut body) = response.into_parts();
    // Most answers are one part.
    let first = next(&mut body).await?;
    let waits = first.as_ref().is_some_and(|it| it.len() <= AT_ONCE);
    let second = if waits { next(&mut body).await? } else { None };
    let ended = first.is_none() || waits && second.is_none();
    Ok(Begun {
        head,
        parts: [first, second],
        rest: (!ended).then_some(body),
    })
}

/// Sends the answer on, part by part.
async fn deliver(begun: Begun, limits: &Limits, answer: Answer) -> Result<(), Stopped> {
    let Begun { head, parts, rest } = begun;
    let mut sent = 0;
    let mut fits = |part: &Bytes| {
        sent += part.len();
        let fits = sent <= limits.response_bytes;
        fits.then_some(())
            .ok_or(Stopped::Failed(Failure::ResponseTooLarge))
    };
    parts.iter().flatten().try_for_each(&mut fits)?;
    let mut parts = parts.into_iter().flatten();
    let Some(mut rest) = rest else {
        let body = Body::full(parts.next().unwrap_or_default());
        let whole = Response::from_parts(head, body);
        return answer.send(whole).then_some(()).ok_or(GONE);
    };
    let (to_client, received) = mpsc::channel(PARTS);
    let head = Response::from_parts(head, Body::parts(received));
    answer.send(head).then_some(()).ok_or(GONE)?;
    let send = async |part| to_client.send(part).await.map_err(|_| GONE);
    for part in parts {
        send(Part::Data(part)).await?;
    }
    loop {
        let part = tokio::select! {
            biased;
            part = next(&mut rest) => part?,
            () = to_client.closed() => return Err(GONE),
        };
        let Some(part) = part else {
            return send(Part::End).await;
        };
        fits(&part)?;
        send(Part::Data(part)).await?;
    }
}

/// The next bytes; trailers are left out.
async fn next(body: &mut UnsyncBoxBody<Bytes, Error>) -> Result<Option<Bytes>, Stopped> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Stopped::Answered(error.to_string()))?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
