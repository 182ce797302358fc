-- What advertisers and identity services report. The aggregator's store has judged each report once,
-- here is what came of it, with the place it was logged at (node, lane, journal, seq: unique together).

-- One row for each revision of a conversion: the first report, and each that changed something.
CREATE TABLE IF NOT EXISTS ${database}.conversions
(
    -- When the report had been read.
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    advertiser LowCardinality(String),
    click_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    -- The advertiser's own word; it tells conversions apart only when the kind is custom.
    kind_name LowCardinality(String),
    custom_kind String ALIAS if(kind = 'custom', kind_name, ''),
    -- The advertiser's number; empty means that there is only one.
    transaction String CODEC(ZSTD(1)),
    -- From 1; the highest is how the conversion stands.
    revision UInt32,
    status LowCardinality(String),
    -- What the advertiser pays: as reported in the smallest unit of its currency, and as people write it.
    -- Amounts of several currencies can't be added.
    payout_minor Int64,
    currency LowCardinality(String),
    payout Decimal(38, 4),
    dialect LowCardinality(String),
    -- Who sent the report; truncated by the edge unless configured, forgotten after 90 days.
    ip IPv6 TTL toDateTime(time) + INTERVAL 90 DAY,
    -- What the click id itself says, also when the click is not here (yet).
    link_id UInt32,
    click_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    click_node UInt16,
    node UInt16,
    lane UInt8,
    journal UInt64,
    seq UInt64 CODEC(Delta, ZSTD(1)),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    INDEX by_click_id click_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
-- The revisions of a conversion lie together. No time to live: what was earned is kept.
ORDER BY (advertiser, click_id, kind, kind_name, transaction, revision)
SETTINGS
    -- As for clicks: what was acknowledged is here once and survives a power cut.
    non_replicated_deduplication_window = 10000,
    min_bytes_for_wide_part = 67108864,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- A conversion reported again with nothing new: one row for each such report.
CREATE TABLE IF NOT EXISTS ${database}.conversion_repeats
(
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    advertiser LowCardinality(String),
    click_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    kind_name LowCardinality(String),
    transaction String CODEC(ZSTD(1)),
    -- The revision it repeats.
    revision UInt32,
    status LowCardinality(String),
    payout_minor Int64,
    currency LowCardinality(String),
    payout Decimal(38, 4),
    dialect LowCardinality(String),
    ip IPv6 TTL toDateTime(time) + INTERVAL 90 DAY,
    link_id UInt32,
    click_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    click_node UInt16,
    node UInt16,
    lane UInt8,
    journal UInt64,
    seq UInt64 CODEC(Delta, ZSTD(1)),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (advertiser, click_id, time)
TTL toDateTime(time) + INTERVAL 13 MONTH
SETTINGS
    non_replicated_deduplication_window = 10000,
    min_bytes_for_wide_part = 67108864,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- What identity services said of affiliates, one row for each message, also those that changed nothing.
CREATE TABLE IF NOT EXISTS ${database}.kyc_events
(
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    -- As the service says: what settles the order.
    happened DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    provider LowCardinality(String),
    -- The service's number of the message.
    delivery String CODEC(ZSTD(1)),
    affiliate LowCardinality(String),
    status LowCardinality(String),
    tier UInt8,
    -- applied: it became the affiliate's state, late: something newer was known already, repeat: the same
    -- message again.
    outcome LowCardinality(String),
    node UInt16,
    lane UInt8,
    journal UInt64,
    seq UInt64 CODEC(Delta, ZSTD(1)),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
-- No time to live: why somebody was paid must be found years later.
ORDER BY (affiliate, happened, provider, delivery)
SETTINGS
    non_replicated_deduplication_window = 10000,
    min_bytes_for_wide_part = 67108864,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- Reports that were refused: at the edge by a function, or by the aggregator's store.
CREATE TABLE IF NOT EXISTS ${database}.rejections
(
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    -- Who refused: a function's name, or `store`.
    source LowCardinality(String),
    -- Who sent it, as far as is known.
    party LowCardinality(String),
    reason UInt16,
    reason_name LowCardinality(String),
    detail String CODEC(ZSTD(1)),
    -- Method and target, masked; empty when the store refused.
    request String CODEC(ZSTD(1)),
    -- The status code answered.
    status UInt16,
    ip IPv6 TTL toDateTime(time) + INTERVAL 90 DAY,
    node UInt16,
    lane UInt8,
    journal UInt64,
    seq UInt64 CODEC(Delta, ZSTD(1)),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (source, reason, party, time)
TTL toDateTime(time) + INTERVAL 13 MONTH
SETTINGS
    non_replicated_deduplication_window = 10000,
    min_bytes_for_wide_part = 67108864,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- How each conversion stands: its latest revision.
CREATE VIEW IF NOT EXISTS ${database}.current_conversions AS
SELECT
    r.advertiser AS advertiser, r.click_id AS click_id, r.kind AS kind, r.custom_kind AS custom_kind,
    r.transaction AS transaction,
    max(r.revision) AS revision,
    min(r.time) AS first_time,
    argMax(r.time, r.revision) AS time,
    argMax(r.status, r.revision) AS status,
    argMax(r.payout_minor, r.revision) AS payout_minor,
    argMax(r.currency, r.revision) AS currency,
    argMax(r.payout, r.revision) AS payout,
    argMax(r.dialect, r.revision) AS dialect,
    any(r.link_id) AS link_id,
    any(r.click_time) AS click_time,
    any(r.click_node) AS click_node
FROM ${database}.conversions AS r
GROUP BY r.advertiser, r.click_id, r.kind, r.custom_kind, r.transaction;

-- … with the click each is due to. One that came before its click is shown without, until it is there.
CREATE VIEW IF NOT EXISTS ${database}.conversions_with_clicks AS
SELECT
    v.*,
    c.id != '' AS click_known,
    c.link AS link, c.offer AS offer, c.campaign AS campaign, c.affiliate AS affiliate,
    c.country AS country, c.device AS device, c.source AS source, c.external_id AS external_id,
    c.sub1 AS sub1, c.sub2 AS sub2, c.sub3 AS sub3, c.sub4 AS sub4, c.sub5 AS sub5,
    c.sub6 AS sub6, c.sub7 AS sub7, c.sub8 AS sub8, c.sub9 AS sub9, c.sub10 AS sub10
FROM ${database}.current_conversions AS v
LEFT ANY JOIN
(
    SELECT
        id, link, offer, campaign, affiliate, country, device, source, external_id,
        sub1, sub2, sub3, sub4, sub5, sub6, sub7, sub8, sub9, sub10
    FROM ${database}.clicks
    WHERE id IN (SELECT click_id FROM ${database}.conversions)
) AS c ON c.id = v.click_id;
