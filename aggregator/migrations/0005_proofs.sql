-- Totals of reports without a signature, per node. They rest on a shared secret alone, which the edge knows. One text
-- for SQLite and PostgreSQL.

CREATE TABLE unsigned_reports (
    node BIGINT NOT NULL,
    -- minute and day: of the report's own time; arrival day: of its evaluation.
    period TEXT NOT NULL,
    -- Minutes or days since 1970.
    number BIGINT NOT NULL,
    -- The currency whose minor units are summed; empty: reports are counted.
    currency TEXT NOT NULL,
    total BIGINT NOT NULL,
    PRIMARY KEY (node, period, number, currency)
);

-- The id of a signed request that is valid only once; empty for other reports.
ALTER TABLE conversion_reports ADD COLUMN signature TEXT NOT NULL DEFAULT '';
