-- What there is, and what of it counts.
SELECT
    sum(counted) AS clicks, sum(uniques) AS uniques, sum(repeated) AS repeated,
    sum(bots) AS bots, sum(prefetches) AS prefetches, sum(heads) AS heads
FROM clicks_by_hour
