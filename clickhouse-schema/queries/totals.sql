-- What there is, and what of it counts.
SELECT
    'clicks' AS of, sum(counted) AS counted, sum(uniques) AS uniques, sum(repeated) AS repeated,
    sum(unknown) AS unknown, sum(bots) AS bots, sum(prefetches) AS prefetches, sum(heads) AS heads
FROM clicks_by_hour
UNION ALL
SELECT
    'impressions' AS of, sum(counted) AS counted, sum(uniques) AS uniques,
    sum(repeated) AS repeated, sum(unknown) AS unknown, sum(bots) AS bots,
    sum(prefetches) AS prefetches, sum(heads) AS heads
FROM impressions_by_hour
ORDER BY of
