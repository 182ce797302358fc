//! Passes a request to the threads of functions: body first, then a permit, then the call. Counts calls and failures.

use crate::call;
use crate::cpu::CpuBudget;
use crate::function::Function;
use crate::response_sender::ResponseSender;
use crate::threads::CallStarter;
use crate::{Body, Failure};
use bytes::Bytes;
use http::{Request, Response};
use std::sync::Arc;
use std::time::Instant;

/// Calls `function`; returns as soon as the head of the response is known.
pub(crate) async fn dispatch<B>(
    starter: &CallStarter,
    function: &Arc<Function>,
    request: Request<B>,
) -> Result<Response<Body>, Failure>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let metrics = &function.metrics;
    metrics.calls.inc();
    let counted = |failure| {
        metrics.count_failure(failure);
        failure
    };
    let request = function.state.request_reader.read(request).await;
    let request = request.map_err(counted)?;
    let permits = function.state.call_permits.clone();
    let permit = permits.try_acquire_owned();
    let permit = permit.map_err(|_| counted(Failure::Busy))?;
    let started_at = Instant::now();
    let (sender, receiver) = ResponseSender::new();
    let budget = CpuBudget::new(function.limits.cpu);
    let class = function.scheduling.clone();
    let (called, call_budget) = (function.clone(), budget.clone());
    let task = starter.run(class, budget, async move {
        let _ticking = called.state.engine.keep_ticking();
        called.metrics.running.inc();
        let done = call::run(&called, call_budget, request, sender).await;
        drop(permit);
        called.metrics.running.dec();
        // Counted here: the client may be gone, or have received the head of a response that is now interrupted.
        done.inspect_err(|failure| called.metrics.count_failure(*failure))
    });
    let response = match receiver.await {
        Ok(response) => Ok(response),
        Err(_) => match task.await {
            Ok(Ok(Err(failure))) => Err(failure),
            _ => Err(counted(Failure::NoResponse)),
        },
    };
    let seconds = started_at.elapsed().as_secs_f64();
    metrics.seconds.observe(seconds);
    response
}
