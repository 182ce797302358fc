//! Bodies of requests and responses that are long, slow, or interrupted.
#![allow(missing_docs)]

mod common;

use bytes::Bytes;
use common::{Functions, TextResponse, failed};
use function_host::{BodyError, Failure, Limits};
use futures::StreamExt as _;
use futures::stream;
use http::{Request, StatusCode};
use http_body::Frame;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

fn frame<E>(text: &str) -> Result<Frame<Bytes>, E> {
    Ok(Frame::data(Bytes::from(text.to_owned())))
}

/// A response that was interrupted after its head.
fn interrupted() -> TextResponse {
    TextResponse {
        status: StatusCode::OK,
        text: BodyError.to_string(),
    }
}

#[tokio::test]
async fn bodies_pass_in_both_directions() {
    let functions = Functions::load(&Limits::default());
    let body = "a body ".repeat(5_000);
    let echoed = functions.call(Request::post("/echo"), &body).await;
    assert_eq!(echoed.text, body);
    let length = functions.call(Request::post("/length"), &body).await;
    assert_eq!(length.text, "35000");
    let large = functions.get("/large?300000").await;
    assert_eq!(large.text.len(), 300_000);
}

#[tokio::test]
async fn bodies_above_their_limits_are_refused() {
    let limits = Limits {
        request_bytes: 1_000,
        response_bytes: 2_000,
        ..Limits::default()
    };
    let functions = Functions::load(&limits);
    let long = "x".repeat(1_001);
    let response = functions.call(Request::post("/length"), &long).await;
    assert_eq!(response, failed(Failure::RequestTooLarge));
    for target in ["/echo", "/length"] {
        let response = functions.post_chunked(target, &long).await;
        assert_eq!(response, failed(Failure::RequestTooLarge), "{target}");
    }
    for target in ["/large?2000", "/parts?1,1999"] {
        assert_eq!(functions.get(target).await.text.len(), 2_000, "{target}");
    }
    for target in ["/large?2001", "/parts?1,2000", "/parts?2001,0"] {
        let response = functions.get(target).await;
        assert_eq!(response, failed(Failure::ResponseTooLarge), "{target}");
    }
}

#[tokio::test]
async fn incomplete_requests_use_no_call_permits() {
    let limits = Limits {
        // The number of complete requests.
        concurrency: 5,
        wall: Duration::from_secs(1),
        ..Limits::default()
    };
    let functions = Functions::load(&limits);
    let half = || stream::iter([frame::<Infallible>("half")]).chain(stream::pending());
    let incomplete = (0..20).map(|_| functions.post_frames("/length", half()));
    let incomplete = futures::future::join_all(incomplete);
    let complete = async {
        for _ in 0..5 {
            assert_eq!(functions.get("/hello").await.text, "hello");
        }
    };
    let (incomplete, ()) = tokio::join!(incomplete, complete);
    for response in incomplete {
        assert_eq!(response, failed(Failure::RequestTooSlow));
    }
}

#[tokio::test]
async fn memory_of_incomplete_requests_is_limited() {
    let limits = Limits {
        request_bytes: 100,
        wall: Duration::from_secs(1),
        ..Limits::default()
    };
    let functions = Functions::load(&limits);
    let silent = || stream::pending::<Result<_, Infallible>>();
    let silent = (0..600).map(|_| functions.post_frames("/length", silent()));
    let silent = futures::future::join_all(silent);
    let complete = functions.call(Request::post("/length"), "all at once");
    let (silent, complete) = tokio::join!(silent, complete);
    assert_eq!(complete.text, "11");
    for (failure, expected) in [(Failure::Busy, 600 - 512), (Failure::RequestTooSlow, 512)] {
        let count = silent.iter().filter(|it| **it == failed(failure)).count();
        assert_eq!(count, expected, "{failure:?}");
    }
    // The memory is released.
    let slow = stream::once(async {
        tokio::task::yield_now().await;
        frame::<Infallible>("a part")
    });
    let slow = slow.chain(stream::unfold(9, |remaining| async move {
        tokio::task::yield_now().await;
        (remaining > 0).then(|| (frame("a part"), remaining - 1))
    }));
    assert_eq!(functions.post_frames("/length", slow).await.text, "60");
}

#[tokio::test]
async fn functions_see_interrupted_request_bodies() {
    let functions = Functions::load(&Limits::default());
    let interrupted = || {
        let error = io::Error::from(io::ErrorKind::UnexpectedEof);
        stream::iter([frame("some"), Err(error)])
    };
    let text = functions.post_frames("/length", interrupted()).await.text;
    assert!(text.contains("ConnectionTerminated"), "{text}");
    assert_eq!(
        functions.post_frames("/echo", interrupted()).await,
        failed(Failure::NoResponse)
    );
}

#[tokio::test]
async fn interrupted_responses_are_visible_and_counted() {
    let with_timeout = |seconds| {
        Functions::load(&Limits {
            cpu: Duration::from_millis(50),
            wall: Duration::from_secs(seconds),
            response_bytes: 100_000,
            ..Limits::default()
        })
    };
    // On a busy machine, computing calls need long to use their 50 ms.
    let functions = with_timeout(300);
    let whole = functions.get("/parts?1,20000,1ms,20000").await;
    assert_eq!((whole.status, whole.text.len()), (StatusCode::OK, 40_001));
    for (script, failure) in [
        ("20000,1ms,panic", Failure::Trapped),
        ("1,1,1ms,panic", Failure::Trapped),
        ("20000,1ms,spin", Failure::CpuExhausted),
        ("20000,1ms,90000", Failure::ResponseTooLarge),
    ] {
        let response = functions.get(&format!("/parts?{script}")).await;
        assert_eq!(response, interrupted(), "{script}");
        let calls = if script.starts_with("1,1,") { 2 } else { 1 };
        functions.await_failures(failure, calls).await;
    }
    let functions = with_timeout(3);
    let response = functions.get("/parts?20000,60000ms").await;
    assert_eq!(response, interrupted());
    functions.await_failures(Failure::TimedOut, 1).await;
}
