-- Which edges deliver reports of conversions late, and by how much? What they say is older than what the conversions
-- stand for, and changed nothing.
SELECT
    node, advertiser, count() AS reports, max(dateDiff('second', time, ingested_at)) AS longest_delay_seconds,
    max(ingested_at) AS last
FROM conversion_repeats
WHERE outcome = 'late'
GROUP BY node, advertiser
ORDER BY reports DESC, node, advertiser
LIMIT 20
