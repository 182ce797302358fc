-- Status, amount, currency and kind of a revision are the conversion's after all reports that are known, sorted by
-- when they were made. A report may add revisions of several conversions of its transaction: these have its place in
-- common.
ALTER TABLE ${database}.conversions
    -- When the report was made that brought the conversion into this state; `time` is that of the report that added
    -- the revision, which may be an older one that arrived late.
    ADD COLUMN IF NOT EXISTS state_time DateTime64(6, 'UTC') DEFAULT time CODEC(Delta, ZSTD(1)),
    -- An older report has arrived since, after which there is no such conversion: its reports belong to another one
    -- of the same transaction.
    ADD COLUMN IF NOT EXISTS withdrawn Bool DEFAULT false;

ALTER TABLE ${database}.conversion_repeats
    -- repeat: it says what was known; late: a newer report of the conversion was known already. Status, amount and
    -- currency are what it says, with what it left out filled in from the reports before it.
    ADD COLUMN IF NOT EXISTS outcome LowCardinality(String) DEFAULT 'repeat';

-- What the clicks of conversions belonged to, copied by the aggregator when it finds a click. No time to live: it
-- outlives the click. Nothing personal is in it.
CREATE TABLE IF NOT EXISTS ${database}.conversion_attribution
(
    click_id String CODEC(ZSTD(1)),
    link_id UInt32,
    link LowCardinality(String),
    offer LowCardinality(String),
    campaign LowCardinality(String),
    affiliate LowCardinality(String),
    country LowCardinality(String),
    device LowCardinality(String),
    attributed_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
-- A click may be copied twice after a crash; its copies are identical.
ENGINE = ReplacingMergeTree
ORDER BY click_id
SETTINGS
    min_bytes_for_wide_part = 67108864,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- How each conversion stands: its latest revision.
CREATE OR REPLACE VIEW ${database}.current_conversions AS
SELECT
    r.advertiser AS advertiser, r.click_id AS click_id, r.kind AS kind, r.custom_kind AS custom_kind,
    r.transaction AS transaction,
    max(r.revision) AS revision,
    min(r.time) AS first_time,
    argMax(r.state_time, r.revision) AS time,
    argMax(r.status, r.revision) AS status,
    argMax(r.payout_minor, r.revision) AS payout_minor,
    argMax(r.currency, r.revision) AS currency,
    argMax(r.payout, r.revision) AS payout,
    argMax(r.dialect, r.revision) AS dialect,
    any(r.link_id) AS link_id,
    any(r.click_time) AS click_time,
    any(r.click_node) AS click_node
FROM ${database}.conversions AS r
GROUP BY r.advertiser, r.click_id, r.kind, r.custom_kind, r.transaction
HAVING NOT argMax(r.withdrawn, r.revision);

-- … with what its click belonged to, also when the click itself is gone, and, as long as it is there, what else is
-- known of it. One that came before its click is shown without, until it is there.
CREATE OR REPLACE VIEW ${database}.conversions_with_clicks AS
SELECT
    v.*,
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
