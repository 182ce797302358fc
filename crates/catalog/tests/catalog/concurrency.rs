//! Several processes on one database.

use crate::support::*;
use catalog::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

/// Increments a counter in the affiliate's name, from the revision that was read.
async fn increment(catalog: &Catalog, id: domain::AffiliateId) {
    loop {
        let mut tx = catalog.database().begin().await.expect("transaction");
        let read = catalog.reader(&mut tx, NETWORK).get::<Affiliate>(id).await;
        drop(tx);
        let read = read.expect("read");
        let count: u32 = read.settings.name.parse().expect("a number");
        let written = write_to(catalog, NETWORK, START, async |writer| {
            let settings = affiliate(&(count + 1).to_string());
            writer.update(id, read.revision, settings).await
        });
        match written.await {
            Ok(_) => return,
            Err(error) => assert_eq!(error.faults()[0].reason, Reason::RevisionConflict),
        }
    }
}

/// Reads versions as they appear, until all writers have ended: none may appear after a higher one. Returns the last.
async fn watch_versions(catalog: &Catalog, writers: &[JoinHandle<()>]) -> usize {
    let mut seen = Vec::new();
    loop {
        let have_ended = writers.iter().all(JoinHandle::is_finished);
        let mut tx = catalog.database().begin().await.expect("transaction");
        let query = ChangeQuery {
            after: Version(seen.len() as u64),
            limit: MAX_CHANGES,
            ..ChangeQuery::default()
        };
        let mut reader = catalog.reader(&mut tx, Scope::Installation);
        let changes = reader.changes(&query).await.expect("read");
        seen.extend(changes.into_iter().map(|change| change.version.0));
        let expected: Vec<u64> = (1..=seen.len() as u64).collect();
        assert_eq!(seen, expected, "a version is missing before a later one");
        drop(tx);
        if have_ended {
            return seen.len();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_lose_no_update() {
    const WRITERS: usize = 4;
    const WRITES: usize = 5;
    for test in both().await {
        let counter = test.create(affiliate("0")).await.id;
        let before = test.links().await.0.0 as usize;
        let started = Arc::new(Barrier::new(WRITERS + 1));
        let mut tasks = Vec::new();
        for _ in 0..WRITERS {
            // Each has connections of its own, as another process has.
            let (location, started) = (test.location.clone(), Arc::clone(&started));
            tasks.push(tokio::spawn(async move {
                let catalog = open(&location).await;
                started.wait().await;
                for _ in 0..WRITES {
                    increment(&catalog, counter).await;
                }
            }));
        }
        let watcher = open(&test.location).await;
        started.wait().await;
        let versions = watch_versions(&watcher, &tasks).await;
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(versions, before + WRITERS * WRITES);
        let read = test.read(async |reader| reader.get::<Affiliate>(counter).await);
        let read = read.await.expect("read");
        assert_eq!(read.settings.name, (WRITERS * WRITES).to_string());
        assert_eq!(read.revision.0 as usize, WRITERS * WRITES + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_is_read_once_the_catalog_is_locked() {
    for test in both().await {
        let mut tx = test.catalog.database().begin().await.expect("transaction");
        record_dates(&mut tx, || seconds(1)).await.expect("locked");
        let is_read = Arc::new(AtomicBool::new(false));
        let (location, reader) = (test.location.clone(), Arc::clone(&is_read));
        let waiting = Arc::new(Barrier::new(2));
        let started = Arc::clone(&waiting);
        let other = tokio::spawn(async move {
            let database = sql_store::Database::open(&location, ACCESS, &[]).await;
            let mut tx = database.expect("opened").begin().await.expect("began");
            started.wait().await;
            let clock = || {
                reader.store(true, Ordering::SeqCst);
                seconds(9)
            };
            record_dates(&mut tx, clock).await.expect("recorded");
            tx.commit().await.expect("committed");
        });
        waiting.wait().await;
        // The other one has no way to the clock before this commit.
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert!(!is_read.load(Ordering::SeqCst));
        }
        tx.commit().await.expect("committed");
        other.await.expect("no panic");
        assert!(is_read.load(Ordering::SeqCst));
    }
}
