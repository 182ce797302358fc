//! The migrations of the store. One that was released is never changed.

use sql_store::Migration;

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "store",
        sql: include_str!("../../migrations/0001_store.sql"),
    },
    Migration {
        version: 2,
        name: "outgoing",
        sql: include_str!("../../migrations/0002_outgoing.sql"),
    },
    Migration {
        version: 3,
        name: "history",
        sql: include_str!("../../migrations/0003_history.sql"),
    },
    Migration {
        version: 4,
        name: "epoch",
        sql: include_str!("../../migrations/0004_epoch.sql"),
    },
    Migration {
        version: 5,
        name: "proofs",
        sql: include_str!("../../migrations/0005_proofs.sql"),
    },
    Migration {
        version: 6,
        name: "steady_clock",
        sql: include_str!("../../migrations/0006_steady_clock.sql"),
    },
    Migration {
        version: 7,
        name: "sales_of_clicks",
        sql: include_str!("../../migrations/0007_sales_of_clicks.sql"),
    },
    Migration {
        version: 8,
        name: "refunds",
        sql: include_str!("../../migrations/0008_refunds.sql"),
    },
    Migration {
        version: 9,
        name: "ends_of_postbacks",
        sql: include_str!("../../migrations/0009_ends_of_postbacks.sql"),
    },
];
