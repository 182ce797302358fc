-- Which campaigns earn? Each currency has a row of its own; a conversion whose click is not known (yet) has no
-- campaign. A campaign stays known when the click itself has been deleted.
SELECT
    if(click_known, toString(campaign), 'unknown') AS campaign_name, affiliate, currency,
    count() AS conversions, countIf(status = 'approved') AS approved,
    sumIf(payout, status = 'approved') AS revenue
FROM conversions_with_clicks
GROUP BY campaign_name, affiliate, currency
ORDER BY conversions DESC, campaign_name, affiliate, currency
LIMIT 20
