//! The launcher with the real engine.
#![allow(missing_docs)]

use clickhouse_embedded::{Launch, RunningEngine, StartError, User};
use std::path::Path;

fn launch(data: &Path, port: u16) -> Launch {
    Launch {
        data_dir: data.into(),
        http_port: port,
        launcher: env!("CARGO_BIN_EXE_clickhouse-embedded").into(),
    }
}

fn query(engine: &RunningEngine, user: Option<&User>, sql: &str) -> Result<String, String> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build();
    let mut request = ureq::Agent::new_with_config(config).post(engine.url());
    if let Some(user) = user {
        request = request
            .header("X-ClickHouse-User", &user.user)
            .header("X-ClickHouse-Key", &user.password);
    }
    let mut response = request.send(sql).map_err(|error| error.to_string())?;
    let text = response
        .body_mut()
        .read_to_string()
        .map_err(|error| error.to_string())?;
    if response.status().is_success() {
        Ok(text.trim().into())
    } else {
        Err(text)
    }
}

#[test]
fn users_have_only_their_privileges() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = launch(data.path(), 0).start().expect("starts");
    let users = engine.credentials().clone();
    let tracker = |sql: &str| query(&engine, Some(&users.tracker), sql);
    let analyst = |sql: &str| query(&engine, Some(&users.analyst), sql);
    for sql in [
        "CREATE DATABASE IF NOT EXISTS tracking",
        "CREATE TABLE tracking.t (n UInt32) ENGINE = MergeTree ORDER BY n",
        "CREATE MATERIALIZED VIEW tracking.v ENGINE = SummingMergeTree ORDER BY n AS SELECT n FROM tracking.t",
        "INSERT INTO tracking.t VALUES (1), (2)",
    ] {
        assert_eq!(tracker(sql), Ok(String::new()), "{sql}");
    }
    assert_eq!(analyst("SELECT sum(n) FROM tracking.t"), Ok("3".into()));
    assert!(analyst("INSERT INTO tracking.t VALUES (3)").is_err());
    assert!(analyst("DROP TABLE tracking.t").is_err());
    for table in ["tracking.t", "system.users", "system.processes"] {
        let rejected = query(&engine, None, &format!("SELECT * FROM {table}")).expect_err(table);
        let by = ["ACCESS_DENIED", "QUOTA_EXCEEDED"];
        assert!(
            by.iter().any(|reason| rejected.contains(reason)),
            "{rejected}"
        );
    }
    assert!(query(&engine, None, "SYSTEM STOP LISTEN HTTP").is_err());
    for setting in ["max_memory_usage", "max_execution_time"] {
        let unlimited = format!("SELECT 1 SETTINGS {setting} = 0");
        assert!(analyst(&unlimited).is_err(), "{unlimited}");
    }
    let unknown_user = User {
        user: "tracker".into(),
        password: "guess".into(),
    };
    assert!(query(&engine, Some(&unknown_user), "SELECT 1").is_err());
    assert!(engine.stop().expect("stops").success());
}

#[test]
fn engine_stops_cleanly_right_after_start() {
    let data = tempfile::tempdir().expect("temporary directory");
    for attempt in 0..10 {
        let engine = launch(data.path(), 0).start().expect("starts");
        let status = engine.stop().expect("stops");
        assert!(status.success(), "attempt {attempt}: {status}");
    }
}

#[test]
fn data_survives_kill_9_and_second_engine_is_rejected() {
    let data = tempfile::tempdir().expect("temporary directory");
    let engine = launch(data.path(), 0).start().expect("starts");
    let tracker = engine.credentials().tracker.clone();
    let run = |engine: &RunningEngine, sql: &str| query(engine, Some(&tracker), sql);
    run(&engine, "CREATE DATABASE tracking").expect("created");
    run(
        &engine,
        "CREATE TABLE tracking.t (n UInt32) ENGINE = MergeTree ORDER BY n",
    )
    .expect("created");
    run(
        &engine,
        "INSERT INTO tracking.t SELECT number FROM numbers(1000)",
    )
    .expect("inserted");
    match launch(data.path(), 0).start() {
        Err(StartError::Failed { log, .. }) => {
            assert!(log.contains("is in use by another engine"), "{log}")
        }
        other => panic!("a second engine on the same data: {other:?}"),
    }
    let port = engine.port();
    let other = tempfile::tempdir().expect("temporary directory");
    match launch(other.path(), port).start() {
        Err(StartError::Failed { log, .. }) => {
            let refusal = format!(
                "clickhouse-embedded: can't listen on 127.0.0.1:{port} (--http-port): \
                 Address already in use (os error 98)"
            );
            assert!(log.ends_with(&refusal), "{log}");
        }
        other => panic!("a second engine on the same port: {other:?}"),
    }
    engine.kill().expect("killed");
    let engine = launch(data.path(), port).start().expect("starts again");
    assert_eq!(
        run(&engine, "SELECT count() FROM tracking.t"),
        Ok("1000".into())
    );
}
