//! The move of a catalog from SQLite's file to PostgreSQL.

use crate::support::*;
use catalog::*;
use sql_store::Location;
use sql_store::test_server::TestDatabase;

#[tokio::test]
async fn catalog_is_moved_completely() {
    let file = TestCatalog::open(TestDatabase::sqlite()).await;
    let parents = file.campaign().await;
    let first = file.create(link(parents.campaign.id, "a")).await;
    let before = file.links().await;
    file.catalog.database().close().await;
    let server = TestDatabase::postgres();
    let Location::File(path) = &file.location else {
        panic!("it is a file");
    };
    let (url, lists) = (server.location(), [MIGRATIONS]);
    let empty = ["catalog_head"];
    sql_store::copy_to_postgres(path, &url, ACCESS, &[], &lists, &empty)
        .await
        .expect("copied");
    let moved = TestCatalog::open(server).await;
    assert_eq!(moved.links().await, before);
    // It continues with the ids, versions and names of the file.
    let second = moved.create(link(parents.campaign.id, "b")).await;
    assert_eq!(second.id.0, first.id.0 + 1);
    let taken = moved.write(START, async |writer| {
        writer.create(link(parents.campaign.id, "a")).await
    });
    assert_eq!(reasons(taken.await)[0].0, Reason::NameTaken);
    assert_eq!(moved.links().await.0.0, before.0.0 + 1);
}
