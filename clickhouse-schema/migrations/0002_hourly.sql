-- Clicks and impressions by hour, kept up to date by views as blocks arrive. Each is counted in one of
-- uniques, repeated, bots, prefetches and heads; counted = uniques + repeated.
CREATE TABLE IF NOT EXISTS ${database}.${events}_hourly
(
    hour DateTime('UTC'),
    link_id UInt32,
    link LowCardinality(String),
    offer LowCardinality(String),
    campaign LowCardinality(String),
    affiliate LowCardinality(String),
    country LowCardinality(String),
    device LowCardinality(String),
    counted SimpleAggregateFunction(sum, UInt64),
    uniques SimpleAggregateFunction(sum, UInt64),
    repeated SimpleAggregateFunction(sum, UInt64),
    bots SimpleAggregateFunction(sum, UInt64),
    prefetches SimpleAggregateFunction(sum, UInt64),
    heads SimpleAggregateFunction(sum, UInt64),
    cost SimpleAggregateFunction(sum, Decimal(38, 6)),
    visitors AggregateFunction(uniqCombined64, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (campaign, link_id, hour, country, device, link, offer, affiliate)
TTL hour + INTERVAL 25 MONTH
SETTINGS
    non_replicated_deduplication_window = 10000,
    -- As for the table behind it: after a power cut a block may be recognised there and not be
    -- rolled up again.
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.${events}_hourly_view TO ${database}.${events}_hourly AS
SELECT
    toStartOfHour(toDateTime(time, 'UTC')) AS hour,
    link_id, link, offer, campaign, affiliate, country, device,
    countIf(bitAnd(flags, 14) = 0) AS counted,
    countIf(bitAnd(flags, 15) = 0) AS uniques,
    countIf(bitAnd(flags, 15) = 1) AS repeated,
    countIf(bitAnd(flags, 14) = 2) AS bots,
    countIf(bitAnd(flags, 12) = 4) AS prefetches,
    countIf(bitTest(flags, 3)) AS heads,
    sumIf(toDecimal128(cost, 6), bitAnd(flags, 14) = 0) AS cost,
    uniqCombined64StateIf(visitor, bitAnd(flags, 14) = 0) AS visitors
FROM ${database}.${events}
GROUP BY hour, link_id, link, offer, campaign, affiliate, country, device;

CREATE VIEW IF NOT EXISTS ${database}.${events}_by_hour AS
SELECT
    hour, link_id, link, offer, campaign, affiliate, country, device,
    sum(counted) AS counted,
    sum(uniques) AS uniques,
    sum(repeated) AS repeated,
    sum(bots) AS bots,
    sum(prefetches) AS prefetches,
    sum(heads) AS heads,
    sum(cost) AS cost,
    uniqCombined64Merge(visitors) AS visitors
FROM ${database}.${events}_hourly
GROUP BY hour, link_id, link, offer, campaign, affiliate, country, device;
