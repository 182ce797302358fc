-- Visits that the edge could not call unique or repeated, since its filters held too much or the visitor's
-- network had added its share: flag 256. They are neither uniques nor repeated in the roll-ups:
-- counted = uniques + repeated + unknown.
ALTER TABLE ${database}.${events}
    ADD COLUMN IF NOT EXISTS uniqueness_unknown Bool ALIAS bitTest(flags, 8) AFTER repeated;

ALTER TABLE ${database}.${events}_hourly
    ADD COLUMN IF NOT EXISTS unknown SimpleAggregateFunction(sum, UInt64) AFTER repeated;

-- Dropped and made again: after MODIFY QUERY and a restart ClickHouse 26.7 no longer recognises a repeated block here.
DROP VIEW IF EXISTS ${database}.${events}_hourly_view;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.${events}_hourly_view TO ${database}.${events}_hourly AS
SELECT
    toStartOfHour(toDateTime(time, 'UTC')) AS hour,
    link_id, link, offer, campaign, affiliate, country, device,
    countIf(bitAnd(flags, 14) = 0) AS counted,
    countIf(bitAnd(flags, 271) = 0) AS uniques,
    countIf(bitAnd(flags, 15) = 1) AS repeated,
    countIf(bitAnd(flags, 271) = 256) AS unknown,
    countIf(bitAnd(flags, 14) = 2) AS bots,
    countIf(bitAnd(flags, 12) = 4) AS prefetches,
    countIf(bitTest(flags, 3)) AS heads,
    sumIf(toDecimal128(cost, 6), bitAnd(flags, 14) = 0) AS cost,
    uniqCombined64StateIf(visitor, bitAnd(flags, 14) = 0) AS visitors
FROM ${database}.${events}
GROUP BY hour, link_id, link, offer, campaign, affiliate, country, device;

CREATE OR REPLACE VIEW ${database}.${events}_by_hour AS
SELECT
    hour, link_id, link, offer, campaign, affiliate, country, device,
    sum(counted) AS counted,
    sum(uniques) AS uniques,
    sum(repeated) AS repeated,
    sum(unknown) AS unknown,
    sum(bots) AS bots,
    sum(prefetches) AS prefetches,
    sum(heads) AS heads,
    sum(cost) AS cost,
    uniqCombined64Merge(visitors) AS visitors
FROM ${database}.${events}_hourly
GROUP BY hour, link_id, link, offer, campaign, affiliate, country, device;
