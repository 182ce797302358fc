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

-- Names the signed request of a report that is valid once; empty where that does not matter.
ALTER TABLE conversion_reports ADD COLUMN signature TEXT NOT NULL DEFAULT '';
