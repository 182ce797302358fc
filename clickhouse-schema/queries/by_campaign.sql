-- Which campaigns bring visitors?
SELECT
    campaign, affiliate, sum(counted) AS clicks, sum(uniques) AS uniques,
    round(100 * uniques / clicks, 1) AS unique_percent
FROM clicks_by_hour
GROUP BY campaign, affiliate
HAVING clicks > 0
ORDER BY clicks DESC, campaign
LIMIT 20
