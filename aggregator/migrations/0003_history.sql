-- Every report of a sale. The state of its conversions follows from all of them, in any order of arrival. One text
-- for SQLite and PostgreSQL.

CREATE TABLE conversion_reports (
    -- The event's place in its journal, with a hash of its bytes.
    event TEXT PRIMARY KEY,
    -- As in `conversions`.
    sale TEXT NOT NULL,
    -- The time of the report. Reports are sorted by it, then by their place.
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
    -- The fields that the report stated itself (kind, status, amount, currency): the bits of an event's `stated`.
    stated BIGINT NOT NULL
);

CREATE INDEX conversion_reports_by_sale ON conversion_reports (sale);

-- 1: the conversion no longer exists: with an older report that arrived later, its reports belong to another one.
ALTER TABLE conversions ADD COLUMN withdrawn BIGINT NOT NULL DEFAULT 0;

-- Clicks that conversions refer to. The row is locked while reports of its click are evaluated.
CREATE TABLE conversion_clicks (
    click_id TEXT PRIMARY KEY,
    -- awaited: not in ClickHouse yet; attributed: ClickHouse has its campaign and affiliate; unknown: it never arrived.
    state TEXT NOT NULL,
    -- The time of the next look-up, and the start of waiting.
    due BIGINT NOT NULL,
    since BIGINT NOT NULL
);

CREATE INDEX conversion_clicks_by_time ON conversion_clicks (state, due);

INSERT INTO conversion_clicks (click_id, state, due, since) SELECT DISTINCT click_id, 'awaited', 0, 0 FROM conversions;

-- The outcome of each event, so that the same block always becomes the same rows. The same place with other bytes is
-- another event.
DROP TABLE applied_events;

CREATE TABLE applied_events (
    journal BIGINT NOT NULL,
    node BIGINT NOT NULL,
    lane BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    -- The hash of the event's bytes.
    hash TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason BIGINT NOT NULL,
    -- The full outcome (JSON).
    verdict TEXT NOT NULL,
    PRIMARY KEY (journal, node, lane, seq, hash)
);
