-- Stores that can be lost: a revision is told apart by the epoch of the store that made it and its number. And which
-- spool of an aggregator may insert blocks.

ALTER TABLE ${database}.conversions ADD COLUMN IF NOT EXISTS epoch UInt64 AFTER transaction;

ALTER TABLE ${database}.conversion_repeats ADD COLUMN IF NOT EXISTS epoch UInt64 AFTER transaction;

-- An aggregator whose spool another one has taken over must not insert what it has left: edges have sent it to the
-- other one again.
CREATE TABLE IF NOT EXISTS ${database}.aggregator_generations
(
    -- Aggregators that work at the same time have different names.
    instance LowCardinality(String),
    generation UInt64,
    -- The random id of the spool's directory.
    spool UInt64,
    since DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY (instance, generation)
SETTINGS
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- How each conversion stands: its latest revision, which is the highest number of the highest epoch.
CREATE OR REPLACE VIEW ${database}.current_conversions AS
SELECT
    r.advertiser AS advertiser, r.click_id AS click_id, r.kind AS kind, r.custom_kind AS custom_kind,
    r.transaction AS transaction,
    max((r.epoch, r.revision)).1 AS epoch,
    max((r.epoch, r.revision)).2 AS revision,
    min(r.time) AS first_time,
    argMax(r.state_time, (r.epoch, r.revision)) AS time,
    argMax(r.status, (r.epoch, r.revision)) AS status,
    argMax(r.payout_minor, (r.epoch, r.revision)) AS payout_minor,
    argMax(r.currency, (r.epoch, r.revision)) AS currency,
    argMax(r.payout, (r.epoch, r.revision)) AS payout,
    argMax(r.dialect, (r.epoch, r.revision)) AS dialect,
    any(r.link_id) AS link_id,
    any(r.click_time) AS click_time,
    any(r.click_node) AS click_node
FROM ${database}.conversions AS r
GROUP BY r.advertiser, r.click_id, r.kind, r.custom_kind, r.transaction
HAVING NOT argMax(r.withdrawn, (r.epoch, r.revision));
