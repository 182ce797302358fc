-- Every report of a sale: how its conversions stand follows from all of them, in whatever order they arrive. One
-- text for SQLite and PostgreSQL.

CREATE TABLE conversion_reports (
    -- Where the event was logged, with a hash of its bytes.
    event TEXT PRIMARY KEY,
    -- As in `conversions`.
    sale TEXT NOT NULL,
    -- When it was reported; with the place it settles the order.
    time BIGINT NOT NULL,
    node BIGINT NOT NULL,
    journal BIGINT NOT NULL,
    lane BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    kind_name TEXT NOT NULL,
    status TEXT NOT NULL,
    payout_minor BIGINT NOT NULL,
    currency TEXT NOT NULL,
    -- Which of kind, status, amount and currency the report stated itself: the bits of an event's `stated`.
    stated BIGINT NOT NULL
);

CREATE INDEX conversion_reports_by_sale ON conversion_reports (sale);

-- 1: an older report has arrived since, after which there is no such conversion: its reports belong to another one.
ALTER TABLE conversions ADD COLUMN withdrawn BIGINT NOT NULL DEFAULT 0;

-- Clicks that conversions are due to. The row is locked while reports of its click are evaluated.
CREATE TABLE conversion_clicks (
    click_id TEXT PRIMARY KEY,
    -- awaited: not in ClickHouse yet; attributed: ClickHouse keeps what it belonged to; unknown: it did not come.
    state TEXT NOT NULL,
    -- When it is to be looked up, and since when it has been awaited.
    due BIGINT NOT NULL,
    since BIGINT NOT NULL
);

CREATE INDEX conversion_clicks_by_time ON conversion_clicks (state, due);

INSERT INTO conversion_clicks (click_id, state, due, since) SELECT DISTINCT click_id, 'awaited', 0, 0 FROM conversions;

-- What became of each event, so that the same block always becomes the same rows. The same place with other bytes is
-- another event.
DROP TABLE applied_events;

CREATE TABLE applied_events (
    journal BIGINT NOT NULL,
    node BIGINT NOT NULL,
    lane BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    -- Of the event's bytes.
    hash TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason BIGINT NOT NULL,
    -- The whole verdict (JSON).
    verdict TEXT NOT NULL,
    PRIMARY KEY (journal, node, lane, seq, hash)
);
