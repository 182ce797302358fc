//! Quarantined and set-aside files of an aggregator are deleted at the age of personal data, and no others.

mod common;

use common::{metric, page, until, without_clickhouse, write_settings};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);

fn write(path: &Path, days: u32) {
    std::fs::create_dir_all(path.parent().expect("parent directory")).expect("directory created");
    let file = File::create(path).expect("directory created");
    file.set_modified(SystemTime::now() - DAY * days)
        .expect("time set");
}

#[tokio::test]
async fn quarantined_and_set_aside_files_expire() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let data = directory.path().join("data");
    let old = [
        "quarantine/1.jsonl",
        "blocks/1.block.corrupt",
        "blocks/checkpoint.corrupt",
    ];
    let kept = ["quarantine/2.jsonl", "blocks/2.block.corrupt"];
    for name in old {
        write(&data.join(name), 31);
    }
    for name in kept {
        write(&data.join(name), 29);
    }
    let settings = without_clickhouse(directory.path(), "[retention]\nset_aside = \"30d\"");
    let running = aggregator::start(settings).await.expect("started");
    let admin = running.admin();
    until("expired", async || {
        metric(admin, "aggregator_expired_files_total").await == Some(3.0)
    })
    .await;
    for name in old {
        assert!(!data.join(name).exists(), "{name}");
    }
    for name in kept {
        assert!(data.join(name).exists(), "{name}");
    }
    assert_eq!(page(admin, "/healthz").await.0, 200);
}

#[test]
fn retention_below_a_day_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let more = "[retention]\nset_aside = \"1h\"";
    let path = write_settings(directory.path(), r#"url = "http://127.0.0.1:9""#, more);
    let error = aggregator::settings::read(&path).expect_err("too short");
    assert!(error.to_string().contains("at least \"1d\""), "{error}");
}
