-- When a postback ended, by the clock of the system: the queue's own clock stands still while no aggregator works. One
-- text for SQLite and PostgreSQL.

-- In microseconds since 1970; 0: it has not ended, or did under an earlier build.
ALTER TABLE outgoing_postbacks ADD COLUMN ended BIGINT NOT NULL DEFAULT 0;
