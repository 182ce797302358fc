-- The current state of conversions and affiliates, and the outcome of each report. One text for SQLite and
-- PostgreSQL. Times are microseconds since 1970. Keys from outside can exceed the size of a PostgreSQL index entry,
-- so rows are found by `identity`, a hash of their natural key.

CREATE TABLE affiliates (
    identity TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    tier BIGINT NOT NULL,
    kyc_status TEXT NOT NULL,
    kyc_happened BIGINT NOT NULL,
    -- The limit of earnings in US cents; NULL: no limit.
    earning_limit BIGINT
);

-- Every message of the identity services. An affiliate's state follows from all of them, in any order of arrival.
CREATE TABLE kyc_deliveries (
    identity TEXT PRIMARY KEY,
    affiliate TEXT NOT NULL,
    provider TEXT NOT NULL,
    delivery TEXT NOT NULL,
    status TEXT NOT NULL,
    tier BIGINT NOT NULL,
    happened BIGINT NOT NULL,
    received BIGINT NOT NULL
);

CREATE INDEX kyc_deliveries_by_affiliate ON kyc_deliveries (affiliate);

CREATE TABLE conversions (
    identity TEXT PRIMARY KEY,
    advertiser TEXT NOT NULL,
    click_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    kind_name TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    -- A hash of advertiser, click and transaction. It has no kind, because refunds need not state the sale's kind.
    sale TEXT NOT NULL,
    revision BIGINT NOT NULL,
    status TEXT NOT NULL,
    payout_minor BIGINT NOT NULL,
    currency TEXT NOT NULL
);

CREATE INDEX conversions_by_sale ON conversions (sale);

CREATE TABLE conversion_revisions (
    identity TEXT NOT NULL,
    revision BIGINT NOT NULL,
    status TEXT NOT NULL,
    payout_minor BIGINT NOT NULL,
    currency TEXT NOT NULL,
    time BIGINT NOT NULL,
    PRIMARY KEY (identity, revision)
);

-- The outcome of each event, so that the same block always becomes the same rows.
CREATE TABLE applied_events (
    journal BIGINT NOT NULL,
    node BIGINT NOT NULL,
    lane BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    revision BIGINT NOT NULL,
    reason BIGINT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (journal, node, lane, seq)
);
