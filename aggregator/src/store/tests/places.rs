//! The place of an event alone does not identify it: edges can be restored, cloned and impersonated.

use super::{StoreDatabase as _, TestDatabase, block, check, conversion, verdict_texts};
use domain::ConversionStatus::{Approved, Chargeback, Pending};
use domain::KycStatus;

#[tokio::test]
async fn verdict_is_not_reused_for_other_bytes() {
    for home in TestDatabase::both() {
        let store = home.store();
        let events = [
            conversion("t", Pending, 10),
            check("a", 1, KycStatus::Approved, 1),
        ];
        let first = block(1, events);
        let expected = ["1 sale pending 10", "applied"];
        assert_eq!(verdict_texts(&store, &first).await, expected);
        assert_eq!(store.place_conflicts().get(), 0);

        // A copy of the edge reports something else from the same places.
        let events = [
            conversion("u", Approved, 20),
            check("b", 2, KycStatus::Revoked, 0),
        ];
        let second = block(1, events);
        let expected_of_copy = ["1 sale approved 20", "applied"];
        assert_eq!(verdict_texts(&store, &second).await, expected_of_copy);
        assert_eq!(store.place_conflicts().get(), 2);

        // Both blocks get the same verdicts again after a crash, and nothing is counted again.
        let store = home.store();
        assert_eq!(verdict_texts(&store, &first).await, expected);
        assert_eq!(verdict_texts(&store, &second).await, expected_of_copy);
        assert_eq!(store.place_conflicts().get(), 0);
    }
}

#[tokio::test]
async fn reports_of_one_place_and_sale_are_both_kept() {
    let home = TestDatabase::sqlite();
    let store = home.store();
    let first = block(1, [conversion("t", Pending, 10)]);
    let second = block(1, [conversion("t", Chargeback, 10)]);
    verdict_texts(&store, &first).await;
    verdict_texts(&store, &second).await;
    let kept = "SELECT status FROM conversion_reports ORDER BY status";
    assert_eq!(home.fetch_all(kept).await, ["chargeback", "pending"]);
}
