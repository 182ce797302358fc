-- The end of a postback by the system clock, because the queue's own clock stops while no aggregator works. One text
-- for SQLite and PostgreSQL.

-- Microseconds since 1970; 0: not ended, or ended under an earlier build.
ALTER TABLE outgoing_postbacks ADD COLUMN ended BIGINT NOT NULL DEFAULT 0;
