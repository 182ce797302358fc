-- How conversions and affiliates stand, and what each report did to them. One text for SQLite and
-- PostgreSQL. Times are microseconds since 1970. Texts from outside may be long and indexes of PostgreSQL
-- may not, so rows are found by `identity`, a hash of what makes them one.

CREATE TABLE affiliates (
    identity TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    tier BIGINT NOT NULL,
    kyc_status TEXT NOT NULL,
    kyc_happened BIGINT NOT NULL,
    -- What may be earned, in US cents; NULL: no limit.
    earning_limit BIGINT
);

-- All that identity services said: an affiliate's state follows from it, in whatever order it came.
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
    -- A hash of advertiser, click and transaction: what takes a sale back may not say what kind it was.
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

-- What became of each event, so that the same block always becomes the same rows.
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
