-- What do advertisers report and owe? Each currency has a line of its own.
SELECT
    advertiser, currency, count() AS conversions, countIf(status = 'approved') AS approved,
    countIf(status IN ('pending', 'hold')) AS open,
    countIf(status IN ('rejected', 'chargeback')) AS lost,
    sumIf(payout, status = 'approved') AS revenue,
    sumIf(payout, status IN ('pending', 'hold')) AS expected
FROM current_conversions
GROUP BY advertiser, currency
ORDER BY conversions DESC, advertiser, currency
LIMIT 20
