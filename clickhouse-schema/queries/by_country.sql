-- Where do visitors come from?
SELECT
    if(country = '', 'unknown', toString(country)) AS country, sum(counted) AS clicks,
    sum(uniques) AS uniques
FROM clicks_by_hour
GROUP BY country
HAVING clicks > 0
ORDER BY clicks DESC, country
LIMIT 15
