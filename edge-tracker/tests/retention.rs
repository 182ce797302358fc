//! Files that an edge set aside are deleted at the age of personal data, and no others.
#![allow(missing_docs)]

mod harness;

use harness::Edge;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);

fn write(path: &Path, days: u32) {
    std::fs::create_dir_all(path.parent().expect("parent directory")).expect("directory created");
    let file = File::create(path).expect("file created");
    file.set_modified(SystemTime::now() - DAY * days)
        .expect("time set");
}

#[test]
fn set_aside_files_of_an_edge_expire() {
    let dir = Edge::start().kill9();
    let data = dir.path().join("data");
    let old = [
        "journal/lane-0/00000000000000000009.seg.corrupt",
        "journal/lane-0/00000000000000000009.seg.foreign",
        "journal/lane-0/00000000000000000009.damaged-4096",
        "journal/lane-0/checkpoint.corrupt",
        "filters/manifest.corrupt",
    ];
    let kept = [
        "journal/lane-0/00000000000000000008.seg.corrupt",
        "filters/0.corrupt",
    ];
    for name in old {
        write(&data.join(name), 91);
    }
    for name in kept {
        write(&data.join(name), 89);
    }
    let edge = Edge::start_in(dir, "");
    edge.await_metric("edge_expired_files_total", "", 5);
    let data = edge.dir.path().join("data");
    for name in old {
        assert!(!data.join(name).exists(), "{name}");
    }
    for name in kept {
        assert!(data.join(name).exists(), "{name}");
    }
    assert!(edge.log().contains("deleted a set-aside file"));
}
