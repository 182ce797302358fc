//! The clock of the queue ignores steps of the system clock, also across restarts.

use super::{StoreDatabase as _, TestDatabase};
use domain::Micros;

const HOUR: u64 = 3_600_000_000;
const MINUTE: u64 = 60_000_000;

#[tokio::test]
async fn steady_clock_ignores_steps_across_restarts() {
    for home in TestDatabase::both() {
        let begun = 1_800_000_000_000_000;
        let steady = async |wall: u64| {
            let store = home.store();
            let clock = store.steady_clock(Micros(wall)).await.expect("clock");
            let now = clock.now();
            store.keep_steady(now).await.expect("stored");
            now.0
        };
        let first = steady(begun).await;
        assert!((begun..begun + MINUTE).contains(&first), "{first}");
        // A step forward by 30 days while it was down counts as an hour at most: nothing expires.
        let forward = steady(begun + 30 * 24 * HOUR).await;
        assert!(
            (begun + HOUR..begun + HOUR + MINUTE).contains(&forward),
            "{forward}"
        );
        // A step back delays no due postback.
        let back = steady(begun - 30 * 24 * HOUR).await;
        assert!((forward..forward + MINUTE).contains(&back), "{back}");
        // A short restart counts as it is.
        let short = steady(back + 5 * MINUTE).await;
        assert!(
            (back + 5 * MINUTE..back + 6 * MINUTE).contains(&short),
            "{short}"
        );
    }
}
