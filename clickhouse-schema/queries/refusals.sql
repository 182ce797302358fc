-- Which reports are refused, and why?
SELECT
    source, reason, reason_name, count() AS refusals, uniqExact(party) AS parties,
    argMax(party, time) AS last_party, argMax(detail, time) AS last_detail, max(time) AS last
FROM rejections
GROUP BY source, reason, reason_name
ORDER BY refusals DESC, source, reason
LIMIT 20
