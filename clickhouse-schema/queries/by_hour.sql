-- When do visitors come?
SELECT
    hour, sum(counted) AS clicks, sum(uniques) AS uniques, sum(bots) AS bots
FROM clicks_by_hour
GROUP BY hour
ORDER BY hour DESC
LIMIT 48
