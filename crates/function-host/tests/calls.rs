//! Calls of a real component: what it may do, what it may not, and what is said when it fails.
#![allow(missing_docs)]

mod common;

use common::{Functions, failed};
use function_host::{Failure, Limits, Manifest, Settings};
use http::{Request, StatusCode};
use std::collections::{BTreeMap, BTreeSet};
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
        functions.await_running(0).await;
    }
    // One call at a time: two at once are in two instances.
    let (a, b) = tokio::join!(functions.get("/calls"), functions.get("/calls"));
    assert_ne!(a.text, b.text);
    // What failed is not used again.
    assert_eq!(functions.get("/panic").await, failed(Failure::Trapped));
    assert_eq!(functions.get("/hello").await.text, "hello");
}

#[tokio::test]
async fn work_that_is_left_over_is_done_before_the_next_call_or_not_at_all() {
    let limits = Limits {
        wall: Duration::from_secs(4),
        ..Limits::default()
    };
    let functions = Functions::load_reusing(&limits, "");
    assert_eq!(functions.get("/later?2000").await.text, "soon");
    // It still works: the next call gets another instance.
    assert_eq!(functions.get("/done").await.text, "0");
    functions.await_running(0).await;
    // It has been given back last.
    assert_eq!(functions.get("/done").await.text, "1");
    functions.await_running(0).await;
    assert_eq!(functions.get("/later?60000").await.text, "soon");
    functions.await_failures(Failure::TimedOut, 1).await;
    assert_eq!(functions.get("/done").await.text, "0");
}

#[tokio::test]
async fn deployments_find_room_however_many_instances_are_kept() {
    let limits = Limits {
        concurrency: 6,
        ..Limits::default()
    };
    let functions = Functions::load_reusing(&limits, "");
    for _ in 0..4 {
        let calls = (0..6).map(|_| functions.get("/parts?20ms,1"));
        let answers = futures::future::join_all(calls).await;
        assert!(answers.iter().all(|it| it.text == "x"), "{answers:?}");
        functions.await_running(0).await;
        functions.deploy().expect("there is room");
    }
}

#[tokio::test]
async fn a_call_ends_as_it_began_whatever_is_deployed_meanwhile() {
    let functions = Functions::load_reusing(&Limits::default(), "");
    let call = functions.get("/parts?1,20000,300ms,1");
    let deployed = async {
        functions.await_running(1).await;
        functions.deploy()
    };
    let (said, deployed) = tokio::join!(call, deployed);
    deployed.expect("deployed");
    assert_eq!(said.text.len(), 20_002);
    functions.await_running(0).await;
    assert_eq!(functions.get("/calls").await.text, "0");
}

#[tokio::test]
async fn who_leaves_gives_back_the_room() {
    let limits = Limits {
        concurrency: 1,
        wall: Duration::from_secs(60),
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    let leaves = async |call| {
        let begun = functions.await_running(1);
        futures::future::select(call, std::pin::pin!(begun)).await;
    };
    leaves(Box::pin(functions.get("/wait"))).await;
    functions.await_failures(Failure::ClientGone, 1).await;
    functions.await_running(0).await;
    assert_eq!(functions.get("/hello").await.text, "hello");
    functions.await_running(0).await;
    // In the middle of the answer.
    drop(functions.head("/parts?20000,60000ms").await);
    functions.await_failures(Failure::ClientGone, 2).await;
    functions.await_running(0).await;
    assert_eq!(functions.get("/hello").await.text, "hello");
}

#[tokio::test]
async fn what_fails_when_it_is_tried_is_not_deployed() {
    let functions = Functions::load(&Limits::default(), "");
    functions.write_manifest("panic at once");
    let error = functions.deploy().expect_err("it panics").to_string();
    assert!(error.contains("function_trapped"), "{error}");
    functions.write_manifest("spin at once");
    let error = functions.deploy().expect_err("it spins").to_string();
    assert!(error.contains("function_cpu_exhausted"), "{error}");
    let greeting = functions.get("/variable?greeting").await.text;
    assert_eq!(greeting, "Ok(\"good day\")");
}

#[tokio::test]
async fn who_fails_is_told_a_number_and_nothing_of_the_cause() {
    // A call that computes is put behind all others, and on a busy machine gets its 50 ms late.
    let limits = Limits {
        cpu: Duration::from_millis(50),
        wall: Duration::from_secs(2),
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
async fn what_the_host_keeps_for_a_function_is_limited() {
    let functions = Functions::load(&Limits::default(), "");
    assert_eq!(functions.get("/hoard?100").await.text, "100");
    assert_eq!(functions.get("/hoard?1000").await, failed(Failure::Trapped));
    let said = functions.get("/swell").await.text;
    assert!(said.contains("SizeExceeded"), "{said}");
    let said = functions.get("/ask-on?http://tracker.internal/v1/x").await;
    assert!(
        said.text.starts_with("32 ") && said.text.contains("ConnectionLimitReached"),
        "{said:?}"
    );
    // Bodies have limits of their own.
    assert_eq!(functions.get("/large?1048576").await.text.len(), 1 << 20);
}

#[tokio::test]
async fn functions_may_say_as_much_as_they_like() {
    let functions = Functions::load_reusing(&Limits::default(), "");
    for _ in 0..3 {
        assert_eq!(functions.get("/print?10000").await.text, "printed");
    }
}

#[tokio::test]
async fn who_finds_no_room_is_told_to_come_again() {
    let limits = Limits {
        concurrency: 2,
        wall: Duration::from_secs(1),
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
async fn what_is_put_off_does_not_wait_for_a_function_that_computes() {
    let limits = Limits {
        cpu: Duration::from_secs(60),
        wall: Duration::from_secs(10),
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    let spinning = functions.get("/spin");
    let reports = async {
        for _ in 0..5 {
            let said = functions.get("/ask?http://tracker.internal/a").await;
            assert_eq!(said.text, "200 OK Ok(\"POST /a question\")");
        }
    };
    tokio::select! {
        biased;
        () = reports => {}
        said = spinning => panic!("it was waited for: {said:?}"),
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

#[test]
fn values_of_variables_are_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = folder.path().join("spin.toml");
    let text = "spin_manifest_version = 2\n[variables]\nkey = { required = true }\n\
         [component.guest]\nsource = \"guest.wasm\"\n\
         allowed_outbound_hosts = [\"https://{{ key }}\"]\n\
         [component.guest.variables]\nkey = \"{{ key }}\"\n";
    std::fs::write(&manifest, text).expect("written");
    let with = |value: &str| BTreeMap::from([("key".to_owned(), value.to_owned())]);
    let read = Manifest::read(&manifest, &with("s3cret"), &with("s3cret"));
    let shown = format!("{:?}", read.expect("a manifest"));
    assert!(!shown.contains("s3cret"), "{shown}");
    let wrong = Manifest::read(&manifest, &with("s3cret@"), &BTreeMap::new());
    let shown = wrong.expect_err("no host").to_string();
    assert!(
        shown.contains("key") && !shown.contains("s3cret"),
        "{shown}"
    );
    let settings = Settings {
        manifest,
        variables: with("s3cret"),
        offered: with("s3cret"),
        cache_dir: folder.path().into(),
        threads: 1,
        limits: Limits::default(),
        reuse: BTreeSet::new(),
    };
    let shown = format!("{settings:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn only_allowed_hosts_can_be_asked() {
    let functions = Functions::load(&Limits::default(), "");
    let answer = functions
        .get("/ask?http://tracker.internal/v1/x")
        .await
        .text;
    assert_eq!(answer, "200 OK Ok(\"POST /v1/x question\")");
    // Whatever way it is written, nobody looks it up.
    let answer = functions.get("/ask?http://Tracker.Internal/v1/x").await;
    assert_eq!(answer.text, "200 OK Ok(\"POST /v1/x question\")");
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
async fn who_is_asked_and_says_nothing_is_not_waited_for_longer() {
    let limits = Limits {
        concurrency: 1,
        wall: Duration::from_secs(1),
        ..Limits::default()
    };
    let functions = Functions::load(&limits, "");
    // It takes connections and never says a word.
    let silent = std::net::TcpListener::bind("localhost:0").expect("bound");
    let port = silent.local_addr().expect("an address").port();
    let said = functions
        .get(&format!("/ask?http://localhost:{port}/"))
        .await;
    assert_eq!(said, failed(Failure::TimedOut));
    assert!(silent.accept().is_ok(), "it was asked");
    functions.await_running(0).await;
    assert_eq!(functions.get("/hello").await.text, "hello");
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
