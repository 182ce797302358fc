//! The counters of unsigned reports: each node's amounts in each period.

use super::super::limits;
use super::{TestDatabase, begin, conversion};
use crate::verification::UnsignedLimits;
use domain::{ConversionStatus, Micros};
use tracking_events::{Conversion, Event};

const DAY: u64 = 86_400_000_000;
/// A report of each test event, and its usual time of arrival.
const NOW: Micros = Micros(1_800_000_000_000_000);

fn report(minor: i64, status: ConversionStatus, time: Micros) -> Conversion<'static> {
    let Event::Conversion(report) = conversion("t", status, minor) else {
        panic!("it is one");
    };
    Conversion { time, ..report }
}

#[tokio::test]
async fn unsigned_reports_are_limited_by_node_and_period() {
    for home in TestDatabase::both() {
        let limits = UnsignedLimits {
            reports_per_minute: 3,
            // EUR has cents.
            amount_per_day: 10,
            amounts_per_day: [("EUR".to_owned(), 20)].into(),
        };
        let approved = ConversionStatus::Approved;
        let charge = async |node, minor, status, time, now| {
            let mut tx = begin(&home.location()).await;
            let report = report(minor, status, time);
            let beyond = limits::charge(&mut tx, node, &report, &limits, now).await;
            tx.commit().await.expect("committed");
            beyond.expect("charged").is_none()
        };
        assert!(charge(1, 1_500, approved, NOW, NOW).await);
        // Above the day's amount. A smaller one is accepted, and those of another node or day.
        assert!(!charge(1, 501, approved, NOW, NOW).await);
        assert!(charge(1, 500, approved, NOW, NOW).await);
        assert!(charge(2, 2_000, approved, NOW, NOW).await);
        let earlier = |days: u64| Micros(NOW.0 - days * DAY);
        for days in 1..=6 {
            assert!(charge(1, 2_000, approved, earlier(days), NOW).await);
        }
        // The reports of one day of arrival are limited as well, independently of the times that they claim.
        assert!(!charge(1, 1, approved, earlier(7), NOW).await);
        assert!(charge(1, 1, approved, earlier(7), Micros(NOW.0 + DAY)).await);
        // A reversal adds no amount, but is one of the minute's reports.
        let chargeback = ConversionStatus::Chargeback;
        assert!(charge(1, 99_999, chargeback, NOW, NOW).await);
        assert!(!charge(1, 1, chargeback, NOW, NOW).await);
    }
}
