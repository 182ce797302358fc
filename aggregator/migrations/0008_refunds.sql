-- The refunded amount of a conversion. ClickHouse has it as well, so that a rebuilt store continues with it. One text
-- for SQLite and PostgreSQL.

ALTER TABLE conversions ADD COLUMN refunded_minor BIGINT NOT NULL DEFAULT 0;
-- The last refund, with which the next one is compared; empty: none; unknown: revised by an earlier build.
ALTER TABLE conversions ADD COLUMN last_refund TEXT NOT NULL DEFAULT 'unknown';

-- Used only by rows that stand for a conversion's known state, if its reports are unknown.
ALTER TABLE conversion_reports ADD COLUMN refunded_minor BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversion_reports ADD COLUMN last_refund TEXT NOT NULL DEFAULT '';
