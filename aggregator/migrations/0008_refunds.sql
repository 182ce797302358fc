-- What refunds have taken back of a conversion, which ClickHouse keeps as well, so that a rebuilt store goes on with it.
-- One text for SQLite and PostgreSQL.

ALTER TABLE conversions ADD COLUMN refunded_minor BIGINT NOT NULL DEFAULT 0;
-- The refund that the next one is compared with; empty: none; unknown: revised by an earlier build.
ALTER TABLE conversions ADD COLUMN last_refund TEXT NOT NULL DEFAULT 'unknown';

-- Only of what a conversion is known to have become, where its reports are not known.
ALTER TABLE conversion_reports ADD COLUMN refunded_minor BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversion_reports ADD COLUMN last_refund TEXT NOT NULL DEFAULT '';
