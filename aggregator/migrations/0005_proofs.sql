-- How much each node has reported that rests on a shared secret alone, which an edge knows. One text for SQLite
-- and PostgreSQL.

CREATE TABLE unsigned_reports (
    node BIGINT NOT NULL,
    -- minute and day: by the report's own time; arrival day: by when it was evaluated.
    period TEXT NOT NULL,
    -- Minutes or days since 1970.
    number BIGINT NOT NULL,
    -- Empty where reports are counted, else the currency whose minor units are summed.
    currency TEXT NOT NULL,
    total BIGINT NOT NULL,
    PRIMARY KEY (node, period, number, currency)
);

-- Signed requests that are valid once, each with the report that it came with first.
CREATE TABLE signed_reports (
    -- A hash of the advertiser and of what it signed.
    identity TEXT PRIMARY KEY,
    journal BIGINT NOT NULL,
    node BIGINT NOT NULL,
    lane BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    -- Microseconds since 1970.
    expires BIGINT NOT NULL
);

CREATE INDEX signed_reports_by_expiry ON signed_reports (expires);
