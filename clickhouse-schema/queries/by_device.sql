-- What do visitors use?
SELECT
    device, sum(counted) AS clicks, sum(uniques) AS uniques
FROM clicks_by_hour
GROUP BY device
HAVING clicks > 0
ORDER BY clicks DESC, device
