-- Which crawlers, monitors and libraries came?
SELECT
    if(browser = '', 'unnamed', toString(browser)) AS program, count() AS clicks,
    uniq(visitor) AS visitors
FROM clicks
WHERE bot AND NOT prefetch AND NOT head
GROUP BY program
ORDER BY clicks DESC, program
LIMIT 15
