//! Clicks of conversions are looked up until they are found or given up.

use super::{StoreDatabase as _, TestDatabase, block, conversion, verdict_texts};
use crate::store::ClickSearch;
use domain::ConversionStatus::{Approved, Pending};
use domain::Micros;

#[tokio::test]
async fn click_is_awaited_until_attributed_or_given_up() {
    for home in TestDatabase::both() {
        let store = home.store();
        let events = [conversion("t", Pending, 1), conversion("u", Approved, 1)];
        verdict_texts(&store, &block(1, events)).await;
        let soon = Micros(Micros::now().0 + 1_000_000);
        let awaited = store.awaited_clicks(soon, 10).await.expect("read");
        let [click] = &awaited[..] else {
            panic!("both conversions have one click: {awaited:?}")
        };
        let later = Micros(soon.0 + 60_000_000);
        let search = [(click.id, ClickSearch::Later(later))];
        store
            .store_click_searches(soon, &search)
            .await
            .expect("stored");
        let count = async |now| {
            let awaited = store.awaited_clicks(now, 10).await.expect("read");
            awaited.len()
        };
        assert_eq!(count(soon).await, 0);
        assert_eq!(count(later).await, 1);
        let search = [(click.id, ClickSearch::Attributed)];
        store
            .store_click_searches(later, &search)
            .await
            .expect("stored");
        assert_eq!(count(later).await, 0);
        // Another report of the click does not have it looked up again.
        verdict_texts(&store, &block(9, [conversion("v", Pending, 1)])).await;
        assert_eq!(count(later).await, 0);
        let states = "SELECT state FROM conversion_clicks";
        assert_eq!(home.fetch_all(states).await, ["attributed"]);
    }
}
