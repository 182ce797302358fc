-- Which store this is. One text for SQLite and PostgreSQL.

-- One row, made when the store is first used. Revisions of conversions are ordered by the epoch of the store that made
-- them, then by their number: a store that takes the place of a lost one, or is restored from a copy, has a higher one.
CREATE TABLE store_epoch (
    -- 1.
    id BIGINT PRIMARY KEY,
    -- Microseconds since 1970, or more; 0: the store is to be brought up to date from ClickHouse first.
    epoch BIGINT NOT NULL,
    -- 1: ClickHouse had reports that earlier stores evaluated when the epoch began, 0: it had none.
    follows BIGINT NOT NULL
);

-- The epoch that the revision was made in: a postback's id is never used again for another revision.
ALTER TABLE outgoing_postbacks ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
