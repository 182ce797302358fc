//! Calls of a real component: permitted imports, limits, failures, and deployments during calls.
#![allow(missing_docs)]

mod common;

use common::{Functions, failed};
use function_host::{Failure, Limits};
use http::{Request, StatusCode};
use std::time::{Duration, Instant};

/// The wall time of computing calls: on a busy machine, background threads compute slowly.
const LONG_TIMEOUT: Duration = Duration::from_secs(300);

#[tokio::test]
async fn functions_receive_the_headers_of_spin() {
    let functions = Functions::load(&Limits::default());
    assert_eq!(functions.get("/hello").await.text, "hello");
    let text = functions.get("/header?spin-client-addr").await.text;
    assert_eq!(text, "Some(\"203.0.113.7:0\")");
    assert_eq!(
        functions.get("/nowhere/else").await.status,
        StatusCode::NOT_FOUND
    );
    let forged = Request::get("/header?spin-client-addr").header("spin-client-addr", "10.0.0.1:1");
    let text = functions.call(forged, "").await.text;
    assert_eq!(text, "Some(\"203.0.113.7:0\")");
}

#[tokio::test]
async fn instances_are_not_reused_by_default() {
    let functions = Functions::load(&Limits::default());
    for _ in 0..20 {
        assert_eq!(functions.get("/calls").await.text, "0");
    }
}

#[tokio::test]
async fn reuse_is_for_one_call_at_a_time_and_ends_on_failure() {
    let functions = Functions::load_reusing(&Limits::default());
    for number in 0..20 {
        assert_eq!(functions.get("/calls").await.text, number.to_string());
        functions.await_running(0).await;
    }
    let (a, b) = tokio::join!(functions.get("/calls"), functions.get("/calls"));
    assert_ne!(a.text, b.text, "concurrent calls are in two instances");
    assert_eq!(functions.get("/panic").await, failed(Failure::Trapped));
    assert_eq!(functions.get("/hello").await.text, "hello");
}

#[tokio::test]
async fn background_work_ends_before_its_instance_is_reused() {
    let limits = Limits {
        wall: Duration::from_secs(4),
        ..Limits::default()
    };
    let functions = Functions::load_reusing(&limits);
    assert_eq!(functions.get("/background?2000").await.text, "started");
    // The task still runs: the next call gets another instance.
    assert_eq!(functions.get("/ended-tasks").await.text, "0");
    functions.await_running(0).await;
    // The instance returned last is reused first.
    assert_eq!(functions.get("/ended-tasks").await.text, "1");
    functions.await_running(0).await;
    assert_eq!(functions.get("/background?60000").await.text, "started");
    functions.await_failures(Failure::TimedOut, 1).await;
    assert_eq!(functions.get("/ended-tasks").await.text, "0");
}

#[tokio::test]
async fn idle_instances_leave_capacity_for_deployments() {
    let limits = Limits {
        concurrency: 6,
        ..Limits::default()
    };
    let functions = Functions::load_reusing(&limits);
    for _ in 0..4 {
        let calls = (0..6).map(|_| functions.get("/parts?20ms,1"));
        let responses = futures::future::join_all(calls).await;
        assert!(responses.iter().all(|it| it.text == "x"), "{responses:?}");
        functions.await_running(0).await;
        functions.deploy().expect("instance for the smoke test");
    }
}

#[tokio::test]
async fn running_call_ends_unchanged_during_a_deployment() {
    let functions = Functions::load_reusing(&Limits::default());
    let call = functions.get("/parts?1,20000,300ms,1");
    let deployed = async {
        functions.await_running(1).await;
        functions.deploy()
    };
    let (response, deployed) = tokio::join!(call, deployed);
    deployed.expect("deployed");
    assert_eq!(response.text.len(), 20_002);
    functions.await_running(0).await;
    assert_eq!(functions.get("/calls").await.text, "0");
}

#[tokio::test]
async fn cancelled_calls_release_their_permit() {
    let limits = Limits {
        concurrency: 1,
        wall: Duration::from_secs(60),
        ..Limits::default()
    };
    let functions = Functions::load(&limits);
    let cancel_when_running = async |call| {
        let running = functions.await_running(1);
        futures::future::select(call, std::pin::pin!(running)).await;
    };
    cancel_when_running(Box::pin(functions.get("/wait"))).await;
    functions.await_failures(Failure::ClientGone, 1).await;
    functions.await_running(0).await;
    assert_eq!(functions.get("/hello").await.text, "hello");
    functions.await_running(0).await;
    // In the middle of the response.
    drop(functions.head("/parts?20000,60000ms").await);
    functions.await_failures(Failure::ClientGone, 2).await;
    functions.await_running(0).await;
    assert_eq!(functions.get("/hello").await.text, "hello");
}

#[tokio::test]
async fn function_that_fails_its_smoke_test_is_not_deployed() {
    let functions = Functions::load(&Limits::default());
    for (greeting, reason) in [
        ("panic at once", "function_trapped"),
        ("spin at once", "function_cpu_exhausted"),
    ] {
        functions.write_manifest(greeting);
        let error = functions.deploy().expect_err(greeting).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let greeting = functions.get("/variable?greeting").await.text;
    assert_eq!(greeting, "Ok(\"good day\")");
}

#[tokio::test]
async fn failures_return_and_count_a_number_without_the_cause() {
    for (target, wall, failure) in [
        ("/panic", LONG_TIMEOUT, Failure::Trapped),
        ("/spin", LONG_TIMEOUT, Failure::CpuExhausted),
        ("/wait", Duration::from_secs(1), Failure::TimedOut),
        ("/allocate", LONG_TIMEOUT, Failure::MemoryExhausted),
    ] {
        let limits = Limits {
            cpu: Duration::from_millis(50),
            wall,
            ..Limits::default()
        };
        let functions = Functions::load(&limits);
        assert_eq!(functions.get(target).await, failed(failure), "{target}");
        functions.await_failures(failure, 1).await;
    }
}

#[tokio::test]
async fn endless_allocation_is_stopped_within_100_ms() {
    let functions = Functions::load(&Limits::default());
    functions.get("/hello").await;
    // Several attempts, because other processes may delay one.
    let mut durations = Vec::new();
    while durations.len() < 50 {
        let started_at = Instant::now();
        let response = functions.get("/allocate").await;
        assert_eq!(response, failed(Failure::MemoryExhausted));
        durations.push(started_at.elapsed());
        if durations.last() < Some(&Duration::from_millis(100)) {
            return;
        }
    }
    panic!("{durations:?}");
}

#[tokio::test]
async fn resources_and_requests_of_a_call_are_limited() {
    let functions = Functions::load(&Limits::default());
    assert_eq!(functions.get("/create-headers?100").await.text, "100");
    assert_eq!(
        functions.get("/create-headers?1000").await,
        failed(Failure::Trapped)
    );
    let text = functions.get("/grow-headers").await.text;
    assert!(text.contains("SizeExceeded"), "{text}");
    let response = functions
        .get("/fetch-until-error?http://tracker.internal/v1/x")
        .await;
    assert!(
        response.text.starts_with("32 ") && response.text.contains("ConnectionLimitReached"),
        "{response:?}"
    );
    // Bodies have limits of their own.
    assert_eq!(functions.get("/large?1048576").await.text.len(), 1 << 20);
}

#[tokio::test]
async fn long_output_to_stderr_does_not_fail_a_call() {
    let functions = Functions::load_reusing(&Limits::default());
    for _ in 0..3 {
        assert_eq!(functions.get("/print?10000").await.text, "printed");
    }
}

#[tokio::test]
async fn calls_above_the_concurrency_limit_get_busy() {
    let limits = Limits {
        concurrency: 2,
        wall: Duration::from_secs(1),
        ..Limits::default()
    };
    let functions = Functions::load(&limits);
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
async fn computing_functions_do_not_delay_others() {
    let limits = Limits {
        cpu: Duration::from_millis(10),
        wall: LONG_TIMEOUT,
        ..Limits::default()
    };
    let functions = Functions::load(&limits);
    let spinning = (0..100).map(|_| functions.get("/spin"));
    let spinning = futures::future::join_all(spinning);
    let others = async {
        for _ in 0..5 {
            assert_eq!(functions.get("/hello").await.text, "hello");
        }
        Instant::now()
    };
    let (spun, others_ended_at) = tokio::join!(spinning, others);
    assert!(
        others_ended_at.elapsed() > Duration::from_millis(1),
        "the other calls ended after all computing ones"
    );
    for response in spun {
        assert_eq!(response, failed(Failure::CpuExhausted));
    }
}

#[tokio::test]
async fn deferred_work_is_flushed_during_computing_calls() {
    let limits = Limits {
        cpu: Duration::from_secs(60),
        wall: Duration::from_secs(10),
        ..Limits::default()
    };
    let functions = Functions::load(&limits);
    let spinning = functions.get("/spin");
    let requests = async {
        for _ in 0..5 {
            let response = functions.get("/fetch?http://tracker.internal/a").await;
            assert_eq!(response.text, "200 OK Ok(\"POST /a question\")");
        }
    };
    tokio::select! {
        biased;
        () = requests => {}
        response = spinning => panic!("the computing call ended first: {response:?}"),
    }
}

#[tokio::test]
async fn functions_read_variables_and_stores_of_their_manifest() {
    let functions = Functions::load(&Limits::default());
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
    assert!(refused.contains("read-only"), "{refused}");
}

#[tokio::test]
async fn functions_reach_only_allowed_hosts() {
    let functions = Functions::load(&Limits::default());
    // A host name in another case is not looked up in DNS either.
    for host in ["tracker.internal", "Tracker.Internal"] {
        let response = functions.get(&format!("/fetch?http://{host}/v1/x")).await;
        assert_eq!(response.text, "200 OK Ok(\"POST /v1/x question\")");
    }
    for url in [
        "http://127.0.0.1:9/",
        "https://tracker.internal/",
        "http://example.com/",
    ] {
        let denied = functions.get(&format!("/fetch?{url}")).await.text;
        assert!(denied.contains("HttpRequestDenied"), "{url}: {denied}");
    }
}

#[tokio::test]
async fn call_that_awaits_a_silent_host_times_out() {
    let limits = Limits {
        concurrency: 1,
        wall: Duration::from_secs(1),
        ..Limits::default()
    };
    let functions = Functions::load(&limits);
    // Accepts connections, but never responds.
    let silent = std::net::TcpListener::bind("localhost:0").expect("free port");
    let port = silent.local_addr().expect("bound address").port();
    let response = functions
        .get(&format!("/fetch?http://localhost:{port}/"))
        .await;
    assert_eq!(response, failed(Failure::TimedOut));
    assert!(silent.accept().is_ok(), "the function connected");
    functions.await_running(0).await;
    assert_eq!(functions.get("/hello").await.text, "hello");
}

#[tokio::test]
async fn rejected_variables_do_not_affect_later_deployments() {
    let functions = Functions::load(&Limits::default());
    let undeclared = [("undeclared".to_owned(), "value".to_owned())];
    let error = functions.deploy_with(undeclared.into());
    let error = error.expect_err("undeclared variable").to_string();
    assert!(error.contains("variable undeclared"), "{error}");
    functions.redeploy().expect("the variables before");
}

#[tokio::test]
async fn deployments_succeed_completely_or_change_nothing() {
    let functions = Functions::load(&Limits::default());
    let greeting = async || functions.get("/variable?greeting").await.text;
    functions.write_manifest("good evening");
    functions.deploy().expect("deployed");
    assert_eq!(greeting().await, "Ok(\"good evening\")");
    functions.write_manifest("good day");
    functions.break_component();
    let error = functions.deploy().expect_err("not a component").to_string();
    assert!(error.starts_with("function guest: "), "{error}");
    assert_eq!(greeting().await, "Ok(\"good evening\")");
    functions.restore_component();
    functions.deploy().expect("deployed");
    assert_eq!(greeting().await, "Ok(\"good day\")");
}
