-- The identity of this store. One text for SQLite and PostgreSQL.

-- One row, inserted when the store is first used. Revisions of conversions are ordered by the epoch of their store,
-- then by their number. A store that replaces a lost one, or is restored from a backup, has a higher epoch.
CREATE TABLE store_epoch (
    -- Always 1.
    id BIGINT PRIMARY KEY,
    -- Microseconds since 1970, or more; 0: the store must first be brought up to date from ClickHouse.
    epoch BIGINT NOT NULL,
    -- 1: ClickHouse had reports of earlier stores when the epoch began; 0: it had none.
    follows BIGINT NOT NULL
);

-- The revision's epoch, a part of the postback's id: an id is never used again for another revision.
ALTER TABLE outgoing_postbacks ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
