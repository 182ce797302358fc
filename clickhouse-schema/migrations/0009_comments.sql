-- What each table, view and column means, where clients of ClickHouse show it (`DESCRIBE`, system.columns).
-- A view that a later migration replaces loses its comments: that migration says them again. The views that fill
-- roll-ups have none: once they were altered, ClickHouse 26.7 no longer recognises a repeated block after a restart.

-- As before, with columns by their own names: `v.*` had named one `v.click_id`, and left the epoch out.
CREATE OR REPLACE VIEW ${database}.conversions_with_clicks AS
SELECT
    v.advertiser AS advertiser, v.click_id AS click_id, v.kind AS kind, v.custom_kind AS custom_kind,
    v.transaction AS transaction, v.epoch AS epoch, v.revision AS revision, v.first_time AS first_time, v.time
    AS time, v.status AS status, v.payout_minor AS payout_minor, v.currency AS currency, v.payout AS payout,
    v.dialect AS dialect, v.link_id AS link_id, v.click_time AS click_time, v.click_node AS click_node,
    a.click_id != '' OR c.id != '' AS click_known,
    if(a.click_id != '', a.link, c.link) AS link,
    if(a.click_id != '', a.offer, c.offer) AS offer,
    if(a.click_id != '', a.campaign, c.campaign) AS campaign,
    if(a.click_id != '', a.affiliate, c.affiliate) AS affiliate,
    if(a.click_id != '', a.country, c.country) AS country,
    if(a.click_id != '', a.device, c.device) AS device,
    c.source AS source, c.external_id AS external_id,
    c.sub1 AS sub1, c.sub2 AS sub2, c.sub3 AS sub3, c.sub4 AS sub4, c.sub5 AS sub5,
    c.sub6 AS sub6, c.sub7 AS sub7, c.sub8 AS sub8, c.sub9 AS sub9, c.sub10 AS sub10
FROM ${database}.current_conversions AS v
LEFT ANY JOIN
(
    SELECT click_id, link, offer, campaign, affiliate, country, device
    FROM ${database}.conversion_attribution
) AS a ON a.click_id = v.click_id
LEFT ANY JOIN
(
    SELECT
        id, link, offer, campaign, affiliate, country, device, source, external_id,
        sub1, sub2, sub3, sub4, sub5, sub6, sub7, sub8, sub9, sub10
    FROM ${database}.clicks
    WHERE id IN (SELECT click_id FROM ${database}.conversions)
) AS c ON c.id = v.click_id;

ALTER TABLE ${database}.${events}
    MODIFY COMMENT 'Every answered click (clicks) or pixel (impressions), one row each. What does not count is flagged, not left out: filter by counted. Kept for 13 months.';

ALTER TABLE ${database}.${events}
    COMMENT COLUMN id 'Signed id of the click or impression; it sorts by time and is what {click_id} hands to advertisers.',
    COMMENT COLUMN time 'When the edge answered, UTC. See clock_wrong and time_unknown.',
    COMMENT COLUMN link_id 'Number of the link in links.toml; never used for another link.',
    COMMENT COLUMN link 'Slug of the link: /c/SLUG.',
    COMMENT COLUMN offer 'Offer of the link at that time.',
    COMMENT COLUMN campaign 'Campaign of the link at that time.',
    COMMENT COLUMN affiliate 'Affiliate of the link at that time.',
    COMMENT COLUMN visitor 'Keyed hash of address and browser. Its salt changes each visitor.period (a day): the same person has another id in the next period.',
    COMMENT COLUMN flags 'Marks as logged by the edge; the Bool columns are their readable form.',
    COMMENT COLUMN counted 'Whether it counts as a visit: neither bot, prefetch nor HEAD.',
    COMMENT COLUMN repeated 'The visitor was seen at this link within unique.window, at the same edge.',
    COMMENT COLUMN uniqueness_unknown 'Neither unique nor repeated: the filters were too full, or the network had added its share.',
    COMMENT COLUMN bot 'A program, by its user agent.',
    COMMENT COLUMN prefetch 'A browser fetched it in advance.',
    COMMENT COLUMN head 'A HEAD request: checked, not visited.',
    COMMENT COLUMN paused 'The link was paused; the visitor went to its fallback.',
    COMMENT COLUMN clock_wrong 'The system clock of the edge was wrong; time is its last trusted time plus the time elapsed.',
    COMMENT COLUMN time_unknown 'With clock_wrong: the edge had no trusted time, and time is when the aggregator received it, less its age.',
    COMMENT COLUMN status 'Status code answered: 301 to 308 for a redirect, 200 for a pixel.',
    COMMENT COLUMN ip 'Address of the visitor, truncated (/24, /48) unless visitor.address_storage is full. Erased after 90 days.',
    COMMENT COLUMN country 'ISO 3166-1 code of two letters, from geo.country; empty when unknown.',
    COMMENT COLUMN region 'ISO 3166-2 subdivision without the country; empty when unknown.',
    COMMENT COLUMN asn 'Autonomous system of the address; 0 when unknown.',
    COMMENT COLUMN device 'Kind of device: desktop, mobile, tablet and so on; empty when unknown.',
    COMMENT COLUMN os 'Operating system, by the user agent.',
    COMMENT COLUMN browser 'Browser, by the user agent.',
    COMMENT COLUMN user_agent 'User agent as sent, cut at visitor.max_agent_bytes. Erased after 90 days.',
    COMMENT COLUMN language 'First language that the browser asks for.',
    COMMENT COLUMN host 'Host that was asked for, in lower case and without port.',
    COMMENT COLUMN referrer 'Referer header, cut at 1024 bytes.',
    COMMENT COLUMN source 'Parameter source of the link, as the affiliate set it.',
    COMMENT COLUMN external_id 'Parameter external_id: the number that the affiliate gave the click.',
    COMMENT COLUMN cost 'Parameter cost: what the visit cost the affiliate, in the currency of the campaign.',
    COMMENT COLUMN sub1 'Parameter sub1 of the link, free for the affiliate.',
    COMMENT COLUMN sub2 'Parameter sub2 of the link, free for the affiliate.',
    COMMENT COLUMN sub3 'Parameter sub3 of the link, free for the affiliate.',
    COMMENT COLUMN sub4 'Parameter sub4 of the link, free for the affiliate.',
    COMMENT COLUMN sub5 'Parameter sub5 of the link, free for the affiliate.',
    COMMENT COLUMN sub6 'Parameter sub6 of the link, free for the affiliate.',
    COMMENT COLUMN sub7 'Parameter sub7 of the link, free for the affiliate.',
    COMMENT COLUMN sub8 'Parameter sub8 of the link, free for the affiliate.',
    COMMENT COLUMN sub9 'Parameter sub9 of the link, free for the affiliate.',
    COMMENT COLUMN sub10 'Parameter sub10 of the link, free for the affiliate.',
    COMMENT COLUMN node 'Number of the edge node that logged the event.',
    COMMENT COLUMN lane 'Journal lane of that node: one for each worker, and two for functions.',
    COMMENT COLUMN journal 'Random id of that journal; node, lane, journal and seq are unique together.',
    COMMENT COLUMN seq 'Sequence in the lane.',
    COMMENT COLUMN ingested_at 'When ClickHouse took the row, UTC.';

ALTER TABLE ${database}.${events}_hourly
    MODIFY COMMENT 'Clicks or impressions by hour, kept up to date as blocks arrive. Kept for 25 months. Ask the view _by_hour.';

ALTER TABLE ${database}.${events}_hourly
    COMMENT COLUMN hour 'Beginning of the hour, UTC.',
    COMMENT COLUMN link_id 'Number of the link in links.toml; never used for another link.',
    COMMENT COLUMN link 'Slug of the link: /c/SLUG.',
    COMMENT COLUMN offer 'Offer of the link at that time.',
    COMMENT COLUMN campaign 'Campaign of the link at that time.',
    COMMENT COLUMN affiliate 'Affiliate of the link at that time.',
    COMMENT COLUMN country 'ISO 3166-1 code of two letters, from geo.country; empty when unknown.',
    COMMENT COLUMN device 'Kind of device: desktop, mobile, tablet and so on; empty when unknown.',
    COMMENT COLUMN counted 'Visits that count: uniques + repeated + unknown.',
    COMMENT COLUMN uniques 'Visits of visitors who were not seen at this link within unique.window. One visitor at two edges is unique at both: edges share nothing. See visitors.',
    COMMENT COLUMN repeated 'Visits of visitors who were.',
    COMMENT COLUMN unknown 'Visits that the edge could call neither.',
    COMMENT COLUMN bots 'Visits of programs, which do not count.',
    COMMENT COLUMN prefetches 'Fetched in advance by browsers, which does not count.',
    COMMENT COLUMN heads 'HEAD requests, which do not count.',
    COMMENT COLUMN cost 'Sum of cost over visits that count.',
    COMMENT COLUMN visitors 'Different visitors over all edges, estimated (uniqCombined64, error about 0.5 %). Merge it: uniqCombined64Merge(visitors).';

ALTER TABLE ${database}.${events}_by_hour
    MODIFY COMMENT 'Clicks or impressions by hour, with sums ready to use. An hour and link has several rows: sum them.';

ALTER TABLE ${database}.${events}_by_hour
    COMMENT COLUMN hour 'Beginning of the hour, UTC.',
    COMMENT COLUMN link_id 'Number of the link in links.toml; never used for another link.',
    COMMENT COLUMN link 'Slug of the link: /c/SLUG.',
    COMMENT COLUMN offer 'Offer of the link at that time.',
    COMMENT COLUMN campaign 'Campaign of the link at that time.',
    COMMENT COLUMN affiliate 'Affiliate of the link at that time.',
    COMMENT COLUMN country 'ISO 3166-1 code of two letters, from geo.country; empty when unknown.',
    COMMENT COLUMN device 'Kind of device: desktop, mobile, tablet and so on; empty when unknown.',
    COMMENT COLUMN counted 'Visits that count: uniques + repeated + unknown.',
    COMMENT COLUMN uniques 'Visits of visitors who were not seen at this link within unique.window. One visitor at two edges is unique at both: edges share nothing. See visitors.',
    COMMENT COLUMN repeated 'Visits of visitors who were.',
    COMMENT COLUMN unknown 'Visits that the edge could call neither.',
    COMMENT COLUMN bots 'Visits of programs, which do not count.',
    COMMENT COLUMN prefetches 'Fetched in advance by browsers, which does not count.',
    COMMENT COLUMN heads 'HEAD requests, which do not count.',
    COMMENT COLUMN cost 'Sum of cost over visits that count.',
    COMMENT COLUMN visitors 'Different visitors within the hour, over all edges, estimated. Do not add them over hours: merge _hourly.visitors.';

ALTER TABLE ${database}.conversions
    MODIFY COMMENT 'Each revision of each conversion: the first report, and each that changed something. Never expires. Ask current_conversions for how conversions stand.';

ALTER TABLE ${database}.conversions
    COMMENT COLUMN time 'When the edge had read the report, UTC.',
    COMMENT COLUMN advertiser 'Advertiser, as advertisers.toml names it.',
    COMMENT COLUMN click_id 'Id of the click that the conversion is due to.',
    COMMENT COLUMN kind 'lead, sale, rebill, upsell, install or custom.',
    COMMENT COLUMN kind_name 'The advertiser\'s own word for the kind.',
    COMMENT COLUMN custom_kind 'kind_name where kind is custom, else empty.',
    COMMENT COLUMN transaction 'Number that the advertiser gave the transaction; empty: the click has one only.',
    COMMENT COLUMN epoch 'Which store evaluated it; a rebuilt store begins a greater one.',
    COMMENT COLUMN revision 'From 1 within its epoch; the greatest epoch and revision is how the conversion stands.',
    COMMENT COLUMN status 'pending, approved, rejected, hold or chargeback.',
    COMMENT COLUMN payout_minor 'What the advertiser pays, in the smallest unit of the currency.',
    COMMENT COLUMN currency 'ISO 4217 code. Amounts of different currencies can not be added: group by it.',
    COMMENT COLUMN payout 'What the advertiser pays, as people write it.',
    COMMENT COLUMN dialect 'Dialect in which it was reported.',
    COMMENT COLUMN ip 'Address that sent the report, truncated unless configured. Erased after 90 days.',
    COMMENT COLUMN link_id 'Number of the link, from the signed click id.',
    COMMENT COLUMN click_time 'When the click was, from the signed click id.',
    COMMENT COLUMN click_node 'Edge node of the click, from the signed click id.',
    COMMENT COLUMN node 'Number of the edge node that logged the event.',
    COMMENT COLUMN lane 'Journal lane of that node: one for each worker, and two for functions.',
    COMMENT COLUMN journal 'Random id of that journal; node, lane, journal and seq are unique together.',
    COMMENT COLUMN seq 'Sequence in the lane.',
    COMMENT COLUMN ingested_at 'When ClickHouse took the row, UTC.',
    COMMENT COLUMN state_time 'When the report was made that brought the conversion into this state.',
    COMMENT COLUMN withdrawn 'An older report arrived since, after which there is no such conversion.';

ALTER TABLE ${database}.conversion_repeats
    MODIFY COMMENT 'Reports that changed nothing: repeated, or older than what was known. Kept for 13 months.';

ALTER TABLE ${database}.conversion_repeats
    COMMENT COLUMN time 'When the edge had read the report, UTC.',
    COMMENT COLUMN advertiser 'Advertiser, as advertisers.toml names it.',
    COMMENT COLUMN click_id 'Id of the click that the conversion is due to.',
    COMMENT COLUMN kind 'lead, sale, rebill, upsell, install or custom.',
    COMMENT COLUMN kind_name 'The advertiser\'s own word for the kind.',
    COMMENT COLUMN transaction 'Number that the advertiser gave the transaction; empty: the click has one only.',
    COMMENT COLUMN epoch 'Which store evaluated it; a rebuilt store begins a greater one.',
    COMMENT COLUMN revision 'The revision that it repeats.',
    COMMENT COLUMN status 'pending, approved, rejected, hold or chargeback.',
    COMMENT COLUMN payout_minor 'What the advertiser pays, in the smallest unit of the currency.',
    COMMENT COLUMN currency 'ISO 4217 code. Amounts of different currencies can not be added: group by it.',
    COMMENT COLUMN payout 'What the advertiser pays, as people write it.',
    COMMENT COLUMN dialect 'Dialect in which it was reported.',
    COMMENT COLUMN ip 'Address that sent the report, truncated unless configured. Erased after 90 days.',
    COMMENT COLUMN link_id 'Number of the link, from the signed click id.',
    COMMENT COLUMN click_time 'When the click was, from the signed click id.',
    COMMENT COLUMN click_node 'Edge node of the click, from the signed click id.',
    COMMENT COLUMN node 'Number of the edge node that logged the event.',
    COMMENT COLUMN lane 'Journal lane of that node: one for each worker, and two for functions.',
    COMMENT COLUMN journal 'Random id of that journal; node, lane, journal and seq are unique together.',
    COMMENT COLUMN seq 'Sequence in the lane.',
    COMMENT COLUMN ingested_at 'When ClickHouse took the row, UTC.',
    COMMENT COLUMN outcome 'repeat: it says what was known; late: a newer report was known already.';

ALTER TABLE ${database}.kyc_events
    MODIFY COMMENT 'Messages of identity services about affiliates, one row each, also those that changed nothing. Never expires.';

ALTER TABLE ${database}.kyc_events
    COMMENT COLUMN time 'When the edge had read the message, UTC.',
    COMMENT COLUMN happened 'When it happened, as the service says; this settles the order.',
    COMMENT COLUMN provider 'Identity service.',
    COMMENT COLUMN delivery 'Number that the service gave the message.',
    COMMENT COLUMN affiliate 'Affiliate.',
    COMMENT COLUMN status 'pending, approved, rejected, revoked or expired.',
    COMMENT COLUMN tier 'Tier that was approved, 0 to 3.',
    COMMENT COLUMN outcome 'applied: it became the state of the affiliate; late: something newer was known; repeat: the same message again.',
    COMMENT COLUMN node 'Number of the edge node that logged the event.',
    COMMENT COLUMN lane 'Journal lane of that node: one for each worker, and two for functions.',
    COMMENT COLUMN journal 'Random id of that journal; node, lane, journal and seq are unique together.',
    COMMENT COLUMN seq 'Sequence in the lane.',
    COMMENT COLUMN ingested_at 'When ClickHouse took the row, UTC.';

ALTER TABLE ${database}.rejections
    MODIFY COMMENT 'Reports that were refused, by a function at the edge, by verification or by the store of the aggregator. Kept for 13 months.';

ALTER TABLE ${database}.rejections
    COMMENT COLUMN time 'When it was refused, UTC.',
    COMMENT COLUMN source 'What refused it: the name of a function, verification, or store.',
    COMMENT COLUMN party 'What sent it, as far as is known.',
    COMMENT COLUMN reason 'Number of the reason; wasm-functions/README.md lists them.',
    COMMENT COLUMN reason_name 'Name of the reason.',
    COMMENT COLUMN detail 'What exactly was wrong.',
    COMMENT COLUMN request 'Method and target, masked; empty where the aggregator refused.',
    COMMENT COLUMN status 'Status code answered.',
    COMMENT COLUMN ip 'Address that sent it, truncated unless configured. Erased after 90 days.',
    COMMENT COLUMN node 'Number of the edge node that logged the event.',
    COMMENT COLUMN lane 'Journal lane of that node: one for each worker, and two for functions.',
    COMMENT COLUMN journal 'Random id of that journal; node, lane, journal and seq are unique together.',
    COMMENT COLUMN seq 'Sequence in the lane.',
    COMMENT COLUMN ingested_at 'When ClickHouse took the row, UTC.';

ALTER TABLE ${database}.conversion_attribution
    MODIFY COMMENT 'What the clicks of conversions belonged to, copied when a click is found. Outlives the click; nothing personal is in it. Never expires.';

ALTER TABLE ${database}.conversion_attribution
    COMMENT COLUMN click_id 'Id of the click.',
    COMMENT COLUMN link_id 'Number of the link in links.toml; never used for another link.',
    COMMENT COLUMN link 'Slug of the link: /c/SLUG.',
    COMMENT COLUMN offer 'Offer of the link at that time.',
    COMMENT COLUMN campaign 'Campaign of the link at that time.',
    COMMENT COLUMN affiliate 'Affiliate of the link at that time.',
    COMMENT COLUMN country 'ISO 3166-1 code of two letters, from geo.country; empty when unknown.',
    COMMENT COLUMN device 'Kind of device: desktop, mobile, tablet and so on; empty when unknown.',
    COMMENT COLUMN attributed_at 'When it was copied, UTC.';

ALTER TABLE ${database}.aggregator_generations
    MODIFY COMMENT 'Which spool of an aggregator may insert. Not for analysts.';

ALTER TABLE ${database}.aggregator_generations
    COMMENT COLUMN instance 'Name of the aggregator.',
    COMMENT COLUMN generation 'Number of the claim; the highest may insert.',
    COMMENT COLUMN spool 'Random id of the directory of the spool.',
    COMMENT COLUMN since 'When it was claimed, UTC.';

ALTER TABLE ${database}.schema_migrations
    MODIFY COMMENT 'Migrations that were applied. Not for analysts.';

ALTER TABLE ${database}.schema_migrations
    COMMENT COLUMN version 'Number of the migration.',
    COMMENT COLUMN name 'Name of the migration.',
    COMMENT COLUMN checksum 'Hash of its text.',
    COMMENT COLUMN applied_at 'When it was applied, UTC.';

ALTER TABLE ${database}.current_conversions
    MODIFY COMMENT 'How each conversion stands: its latest revision.';

ALTER TABLE ${database}.current_conversions
    COMMENT COLUMN advertiser 'Advertiser, as advertisers.toml names it.',
    COMMENT COLUMN click_id 'Id of the click that the conversion is due to.',
    COMMENT COLUMN kind 'lead, sale, rebill, upsell, install or custom.',
    COMMENT COLUMN custom_kind 'kind_name where kind is custom, else empty.',
    COMMENT COLUMN transaction 'Number that the advertiser gave the transaction; empty: the click has one only.',
    COMMENT COLUMN epoch 'Which store evaluated it; a rebuilt store begins a greater one.',
    COMMENT COLUMN status 'pending, approved, rejected, hold or chargeback.',
    COMMENT COLUMN payout_minor 'What the advertiser pays, in the smallest unit of the currency.',
    COMMENT COLUMN currency 'ISO 4217 code. Amounts of different currencies can not be added: group by it.',
    COMMENT COLUMN payout 'What the advertiser pays, as people write it.',
    COMMENT COLUMN dialect 'Dialect in which it was reported.',
    COMMENT COLUMN link_id 'Number of the link, from the signed click id.',
    COMMENT COLUMN click_time 'When the click was, from the signed click id.',
    COMMENT COLUMN click_node 'Edge node of the click, from the signed click id.',
    COMMENT COLUMN revision 'Number of the revision that counts.',
    COMMENT COLUMN first_time 'When it was first reported, UTC.',
    COMMENT COLUMN time 'When the report was made that brought it into this state, UTC.';

ALTER TABLE ${database}.conversions_with_clicks
    MODIFY COMMENT 'How each conversion stands, with what its click belonged to, as far as it is known.';

ALTER TABLE ${database}.conversions_with_clicks
    COMMENT COLUMN advertiser 'Advertiser, as advertisers.toml names it.',
    COMMENT COLUMN click_id 'Id of the click that the conversion is due to.',
    COMMENT COLUMN kind 'lead, sale, rebill, upsell, install or custom.',
    COMMENT COLUMN custom_kind 'kind_name where kind is custom, else empty.',
    COMMENT COLUMN transaction 'Number that the advertiser gave the transaction; empty: the click has one only.',
    COMMENT COLUMN epoch 'Which store evaluated it; a rebuilt store begins a greater one.',
    COMMENT COLUMN status 'pending, approved, rejected, hold or chargeback.',
    COMMENT COLUMN payout_minor 'What the advertiser pays, in the smallest unit of the currency.',
    COMMENT COLUMN currency 'ISO 4217 code. Amounts of different currencies can not be added: group by it.',
    COMMENT COLUMN payout 'What the advertiser pays, as people write it.',
    COMMENT COLUMN dialect 'Dialect in which it was reported.',
    COMMENT COLUMN link_id 'Number of the link, from the signed click id.',
    COMMENT COLUMN click_time 'When the click was, from the signed click id.',
    COMMENT COLUMN click_node 'Edge node of the click, from the signed click id.',
    COMMENT COLUMN revision 'Number of the revision that counts.',
    COMMENT COLUMN first_time 'When it was first reported, UTC.',
    COMMENT COLUMN time 'When the report was made that brought it into this state, UTC.',
    COMMENT COLUMN click_known 'Whether the click is here, or was copied to conversion_attribution.',
    COMMENT COLUMN link 'Slug of the link: /c/SLUG. Of the click; empty while it is not known.',
    COMMENT COLUMN offer 'Offer of the link. Of the click; empty while it is not known.',
    COMMENT COLUMN campaign 'Campaign of the link. Of the click; empty while it is not known.',
    COMMENT COLUMN affiliate 'Affiliate of the link. Of the click; empty while it is not known.',
    COMMENT COLUMN country 'ISO 3166-1 code of two letters, from geo.country; empty when unknown. Of the click; empty while it is not known.',
    COMMENT COLUMN device 'Kind of device: desktop, mobile, tablet and so on; empty when unknown. Of the click; empty while it is not known.',
    COMMENT COLUMN source 'Parameter source of the link, as the affiliate set it.',
    COMMENT COLUMN external_id 'Parameter external_id: the number that the affiliate gave the click.',
    COMMENT COLUMN sub1 'Parameter sub1 of the link, free for the affiliate.',
    COMMENT COLUMN sub2 'Parameter sub2 of the link, free for the affiliate.',
    COMMENT COLUMN sub3 'Parameter sub3 of the link, free for the affiliate.',
    COMMENT COLUMN sub4 'Parameter sub4 of the link, free for the affiliate.',
    COMMENT COLUMN sub5 'Parameter sub5 of the link, free for the affiliate.',
    COMMENT COLUMN sub6 'Parameter sub6 of the link, free for the affiliate.',
    COMMENT COLUMN sub7 'Parameter sub7 of the link, free for the affiliate.',
    COMMENT COLUMN sub8 'Parameter sub8 of the link, free for the affiliate.',
    COMMENT COLUMN sub9 'Parameter sub9 of the link, free for the affiliate.',
    COMMENT COLUMN sub10 'Parameter sub10 of the link, free for the affiliate.';
