-- Every answered click in `clicks`, every answered pixel in `impressions`, one row each, with the
-- same columns. Nothing is left out: what does not count is flagged.
CREATE TABLE IF NOT EXISTS ${database}.${events}
(
    -- The signed id of the click or impression: 36 URL-safe characters that sort by time.
    id String CODEC(ZSTD(1)),
    time DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    link_id UInt32,
    link LowCardinality(String),
    offer LowCardinality(String),
    campaign LowCardinality(String),
    affiliate LowCardinality(String),
    -- A keyed hash whose salt rotates: the same visitor has another id next period.
    visitor UInt64 CODEC(ZSTD(1)),
    -- Marks as logged by the edge; the columns below are their readable form and take no room.
    flags UInt32,
    counted Bool ALIAS bitAnd(flags, 14) = 0,
    repeated Bool ALIAS bitTest(flags, 0),
    bot Bool ALIAS bitTest(flags, 1),
    prefetch Bool ALIAS bitTest(flags, 2),
    head Bool ALIAS bitTest(flags, 3),
    paused Bool ALIAS bitTest(flags, 4),
    status UInt16,
    -- Truncated by the edge unless configured; forgotten after 90 days.
    ip IPv6 TTL toDateTime(time) + INTERVAL 90 DAY,
    country LowCardinality(String),
    region LowCardinality(String),
    asn UInt32,
    device LowCardinality(String),
    os LowCardinality(String),
    browser LowCardinality(String),
    user_agent String CODEC(ZSTD(1)) TTL toDateTime(time) + INTERVAL 90 DAY,
    language LowCardinality(String),
    host LowCardinality(String),
    referrer String CODEC(ZSTD(1)),
    source LowCardinality(String),
    external_id String CODEC(ZSTD(1)),
    -- What the affiliate says the visit cost, in the campaign's currency.
    cost Decimal(18, 6),
    sub1 String CODEC(ZSTD(1)),
    sub2 String CODEC(ZSTD(1)),
    sub3 String CODEC(ZSTD(1)),
    sub4 String CODEC(ZSTD(1)),
    sub5 String CODEC(ZSTD(1)),
    sub6 String CODEC(ZSTD(1)),
    sub7 String CODEC(ZSTD(1)),
    sub8 String CODEC(ZSTD(1)),
    sub9 String CODEC(ZSTD(1)),
    sub10 String CODEC(ZSTD(1)),
    -- Where it was logged: unique together.
    node UInt16,
    lane UInt8,
    journal UInt64,
    seq UInt64 CODEC(Delta, ZSTD(1)),
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3),
    -- Support asks for single clicks by their id.
    INDEX by_id id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_external_id external_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
-- By month: at most a few dozen partitions live, a block of fresh events touches one (two at the
-- turn).
PARTITION BY toYYYYMM(time)
-- Analysts ask by campaign and link over ranges of time; the hour first within a link keeps ranges
-- of time together without giving up compression.
ORDER BY (campaign, link_id, toStartOfHour(time), id)
TTL toDateTime(time) + INTERVAL 13 MONTH
SETTINGS
    -- A block sent again within this many blocks is recognised by its token.
    non_replicated_deduplication_window = 10000,
    -- A block is one file, not one for each column; what is merged of several has its columns apart.
    min_bytes_for_wide_part = 67108864,
    -- The edges delete what we acknowledge, so it must survive a power cut here.
    fsync_after_insert = 1,
    fsync_part_directory = 1;
