//! Calls of a real component: what it may do, what it may not, and what is said when it fails.
#![allow(missing_docs)]

mod common;

use common::{Functions, failed};
use function_host::{Failure, Limits};
use http::{Request, StatusCode};
use std::time::{Duration, Instant};

#[tokio::test]
async fn functions_are_called_with_what_spin_tells_them() {
    let functions = Functions::load(&Limits::default(), "");
    assert_eq!(functions.get("/hello").await.text, "hello");
    let text = functions.get("/header?spin-client-addr").await.text;
    assert_eq!(text, "Some(\"203.0.113.7:0\")");
    assert_eq!(
        functions.get("/nowhere/else").await.status,
        StatusCode::NOT_FOUND
    );
    let request = Request::get("/header?spin-client-addr").header("spin-client-addr", "10.0.0.1:1");
    let text = functions.call(request, "").await.text;
    assert_eq!(
        text, "Some(\"203.0.113.7:0\")",
        "a client can't make up its address"
    );
}

#[tokio::test]
async fn bodies_go_in_and_out() {
    let functions = Functions::load(&Limits::default(), "");
    let body = "a body ".repeat(5_000);
    let echoed = functions.call(Request::post("/echo"), &body).await;
    assert_eq!(echoed.text, body);
    assert_eq!(
        functions.call(Request::post("/length"), &body).await.text,
        "35000"
    );
    let large = functions.get("/large?300000").await;
    assert_eq!(large.text.len(), 300_000);
}

#[tokio::test]
async fn no_call_sees_what_another_left() {
    let functions = Functions::load(&Limits::default(), "");
    for _ in 0..20 {
        assert_eq!(functions.get("/calls").await.text, "0");
    }
}

#[tokio::test]
async fn instances_are_used_again_only_where_that_was_asked_for() {
    let functions = Functions::load_reusing(&Limits::default(), "");
    for number in 0..20 {
        assert_eq!(functions.get("/calls").await.text, number.to_string());
    }
    // One call at a time: two at once are in two instances.
    let (a, b) = tokio::join!(functions.get("/calls"), functions.get("/calls"));
    assert_ne!(a.text, b.text);
    // What failed is not used again.
    assert_eq!(functions.get("/panic").await, failed(Failure::Trapped));
    assert_eq!(functions.get("/hello").await.text, "hello");
}

#[tokio::test]
async fn who_fails_is_told_a_number_and_nothing_of_the_cause() {
    let limits = Limits {
        cpu: Duration::from_millis(50),
        wall: Duration::from_millis(400),
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    assert_eq!(functions.get("/panic").await, failed(Failure::Trapped));
    assert_eq!(functions.get("/spin").await, failed(Failure::CpuExhausted));
    assert_eq!(functions.get("/wait").await, failed(Failure::TimedOut));
    assert_eq!(
        functions.get("/allocate").await,
        failed(Failure::MemoryExhausted)
    );
    assert_eq!(functions.get("/hello").await.text, "hello");
    let metrics = functions.metrics();
    for failure in [
        Failure::Trapped,
        Failure::CpuExhausted,
        Failure::TimedOut,
        Failure::MemoryExhausted,
    ] {
        let line = format!(
            "function_errors_total{{function=\"guest\",reason=\"{}\"}} 1",
            failure.name()
        );
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn who_allocates_without_end_is_stopped_soon() {
    let functions = Functions::load(&Limits::default(), "");
    functions.get("/hello").await;
    let fastest = {
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let begun = Instant::now();
            assert_eq!(
                functions.get("/allocate").await,
                failed(Failure::MemoryExhausted)
            );
            fastest = fastest.min(begun.elapsed());
        }
        fastest
    };
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
}

#[tokio::test]
async fn who_finds_no_room_is_told_to_come_again() {
    let limits = Limits {
        concurrency: 2,
        wall: Duration::from_millis(500),
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    let (a, b, c) = tokio::join!(
        functions.get("/wait"),
        functions.get("/wait"),
        functions.get("/hello")
    );
    assert_eq!(a, failed(Failure::TimedOut));
    assert_eq!(b, failed(Failure::TimedOut));
    assert_eq!(c, failed(Failure::Busy));
    assert_eq!(functions.get("/hello").await.text, "hello");
}

#[tokio::test]
async fn others_are_answered_while_many_compute() {
    let limits = Limits {
        cpu: Duration::from_millis(40),
        wall: Duration::from_secs(30),
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    let spinning = (0..100).map(|_| functions.get("/spin"));
    let spinning = futures::future::join_all(spinning);
    let others = async {
        for _ in 0..5 {
            assert_eq!(functions.get("/hello").await.text, "hello");
        }
        Instant::now()
    };
    let (spun, answered) = tokio::join!(spinning, others);
    assert!(
        answered.elapsed() > Duration::from_millis(1),
        "others waited for all"
    );
    for said in spun {
        assert_eq!(said, failed(Failure::CpuExhausted));
    }
}

#[tokio::test]
async fn variables_and_stores_are_those_of_the_manifest() {
    let functions = Functions::load(&Limits::default(), "");
    assert_eq!(
        functions.get("/variable?greeting").await.text,
        "Ok(\"good day\")"
    );
    let undefined = functions.get("/variable?secret").await.text;
    assert!(undefined.contains("Undefined"), "{undefined}");
    assert_eq!(functions.get("/stored?sky").await.text, "None");
    functions.fill([("sky", "blue"), ("grass", "green")]);
    assert_eq!(functions.get("/stored?sky").await.text, "Some(\"blue\")");
    assert_eq!(functions.get("/keys").await.text, "grass sky");
    let refused = functions.get("/write?sky").await.text;
    assert!(refused.contains("read only"), "{refused}");
}

#[tokio::test]
async fn only_allowed_hosts_can_be_asked() {
    let functions = Functions::load(&Limits::default(), "");
    let answer = functions
        .get("/ask?http://tracker.internal/v1/x")
        .await
        .text;
    assert_eq!(answer, "200 OK Ok(\"POST /v1/x question\")");
    for url in [
        "http://127.0.0.1:9/",
        "https://tracker.internal/",
        "http://example.com/",
    ] {
        let denied = functions.get(&format!("/ask?{url}")).await.text;
        assert!(denied.contains("HttpRequestDenied"), "{url}: {denied}");
    }
}

#[tokio::test]
async fn a_deployment_is_whole_or_changes_nothing_and_can_be_taken_back() {
    let functions = Functions::load(&Limits::default(), "");
    functions.write_manifest("good evening");
    functions.deploy().expect("deployed");
    assert_eq!(
        functions.get("/variable?greeting").await.text,
        "Ok(\"good evening\")"
    );
    functions.break_component();
    let error = functions.deploy().expect_err("not a component").to_string();
    assert!(error.starts_with("function guest: "), "{error}");
    assert_eq!(
        functions.get("/variable?greeting").await.text,
        "Ok(\"good evening\")"
    );
    assert!(functions.roll_back());
    assert_eq!(
        functions.get("/variable?greeting").await.text,
        "Ok(\"good day\")"
    );
}
