//! Bodies of requests and answers that are long, slow, or break off.
#![allow(missing_docs)]

mod common;

use bytes::Bytes;
use common::{Functions, Said, failed};
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

/// An answer that began and broke off.
fn broken_off() -> Said {
    Said {
        status: StatusCode::OK,
        text: BodyError.to_string(),
    }
}

#[tokio::test]
async fn bodies_beyond_their_limits_are_refused() {
    let limits = Limits {
        request_bytes: 1_000,
        response_bytes: 2_000,
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    let long = "x".repeat(1_001);
    let said = functions.call(Request::post("/length"), &long).await;
    assert_eq!(said, failed(Failure::RequestTooLarge));
    for target in ["/echo", "/length"] {
        let said = functions.call_in_parts(target, &long).await;
        assert_eq!(said, failed(Failure::RequestTooLarge), "{target}");
    }
    for target in ["/large?2000", "/parts?1,1999"] {
        assert_eq!(functions.get(target).await.text.len(), 2_000, "{target}");
    }
    for target in ["/large?2001", "/parts?1,2000", "/parts?2001,0"] {
        let said = functions.get(target).await;
        assert_eq!(said, failed(Failure::ResponseTooLarge), "{target}");
    }
}

#[tokio::test]
async fn half_a_request_takes_nobody_s_room() {
    let limits = Limits {
        // One for each of the others.
        concurrency: 5,
        wall: Duration::from_secs(1),
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    let half = || stream::iter([frame::<Infallible>("half")]).chain(stream::pending());
    let halves = (0..20).map(|_| functions.call_with("/length", half()));
    let halves = futures::future::join_all(halves);
    let others = async {
        for _ in 0..5 {
            assert_eq!(functions.get("/hello").await.text, "hello");
        }
    };
    let (halves, ()) = tokio::join!(halves, others);
    for said in halves {
        assert_eq!(said, failed(Failure::RequestTooSlow));
    }
}

#[tokio::test]
async fn what_half_requests_take_together_is_limited() {
    let limits = Limits {
        request_bytes: 100,
        wall: Duration::from_secs(1),
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    let silent = || stream::pending::<Result<_, Infallible>>();
    let silent = (0..600).map(|_| functions.call_with("/length", silent()));
    let silent = futures::future::join_all(silent);
    let other = functions.call(Request::post("/length"), "all at once");
    let (silent, other) = tokio::join!(silent, other);
    assert_eq!(other.text, "11");
    let busy = silent.iter().filter(|it| **it == failed(Failure::Busy));
    assert_eq!(busy.count(), 600 - 512);
    let slow = silent
        .iter()
        .filter(|it| **it == failed(Failure::RequestTooSlow));
    assert_eq!(slow.count(), 512);
    // The room is there again.
    let slow = stream::once(async {
        tokio::task::yield_now().await;
        frame::<Infallible>("a part")
    });
    let slow = slow.chain(stream::unfold(9, |left| async move {
        tokio::task::yield_now().await;
        (left > 0).then(|| (frame("a part"), left - 1))
    }));
    assert_eq!(functions.call_with("/length", slow).await.text, "60");
}

#[tokio::test]
async fn functions_are_told_of_bodies_that_break_off() {
    let functions = Functions::load(&Limits::default(), "");
    let broken = || frame_and(io::Error::from(io::ErrorKind::UnexpectedEof));
    let said = functions.call_with("/length", broken()).await.text;
    assert!(said.contains("ConnectionTerminated"), "{said}");
    assert_eq!(
        functions.call_with("/echo", broken()).await,
        failed(Failure::NoAnswer)
    );
}

fn frame_and<E: Send + 'static>(
    error: E,
) -> impl futures::Stream<Item = Result<Frame<Bytes>, E>> + Send {
    stream::iter([frame("some"), Err(error)])
}

#[tokio::test]
async fn answers_that_break_off_are_told_and_counted() {
    let limits = Limits {
        cpu: Duration::from_millis(50),
        wall: Duration::from_secs(2),
        response_bytes: 100_000,
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    let whole = functions.get("/parts?1,20000,1ms,20000").await;
    assert_eq!((whole.status, whole.text.len()), (StatusCode::OK, 40_001));
    for (script, failure) in [
        ("20000,1ms,panic", Failure::Trapped),
        ("1,1,1ms,panic", Failure::Trapped),
        ("20000,1ms,spin", Failure::CpuExhausted),
        ("20000,60000ms", Failure::TimedOut),
        ("20000,1ms,90000", Failure::ResponseTooLarge),
    ] {
        let said = functions.get(&format!("/parts?{script}")).await;
        assert_eq!(said, broken_off(), "{script}");
        let calls = if script.starts_with("1,1,") { 2 } else { 1 };
        functions.await_failures(failure, calls).await;
    }
}
