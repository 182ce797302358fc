//! Questions that analysts ask, with their queries.

/// A question and its query, to be run with the database selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// A short name.
    pub name: &'static str,
    /// A heading for its answer.
    pub title: &'static str,
    /// ClickHouse SQL, with the question as its first line.
    pub sql: &'static str,
}

/// All queries, the most general first.
pub const COOKBOOK: &[Query] = &[
    Query {
        name: "totals",
        title: "Totals",
        sql: include_str!("../queries/totals.sql"),
    },
    Query {
        name: "by_campaign",
        title: "Clicks and uniques by campaign",
        sql: include_str!("../queries/by_campaign.sql"),
    },
    Query {
        name: "by_country",
        title: "Clicks and uniques by country",
        sql: include_str!("../queries/by_country.sql"),
    },
    Query {
        name: "by_device",
        title: "Clicks and uniques by device",
        sql: include_str!("../queries/by_device.sql"),
    },
    Query {
        name: "bots",
        title: "Programs",
        sql: include_str!("../queries/bots.sql"),
    },
    Query {
        name: "by_hour",
        title: "Clicks by hour",
        sql: include_str!("../queries/by_hour.sql"),
    },
    Query {
        name: "conversions_by_advertiser",
        title: "Conversions and revenue by advertiser",
        sql: include_str!("../queries/conversions_by_advertiser.sql"),
    },
    Query {
        name: "conversions_by_campaign",
        title: "Conversions and revenue by campaign",
        sql: include_str!("../queries/conversions_by_campaign.sql"),
    },
    Query {
        name: "late_reports",
        title: "Reports that arrived late",
        sql: include_str!("../queries/late_reports.sql"),
    },
    Query {
        name: "refusals",
        title: "Refused reports",
        sql: include_str!("../queries/refusals.sql"),
    },
];
