-- What refunds have taken back of a conversion, so that a store that is rebuilt from here recognises a refund that is
-- reported again.
ALTER TABLE ${database}.conversions
    ADD COLUMN IF NOT EXISTS refunded_minor Int64 DEFAULT 0
    COMMENT 'What partial refunds have taken back of the amount, in the smallest unit of the currency.'
    AFTER payout_as_sent,
    ADD COLUMN IF NOT EXISTS last_refund String DEFAULT 'unknown'
    COMMENT 'Last refund: amount, currency, kind, fields stated, kind_name. Empty: none. unknown: of an earlier build.'
    CODEC(ZSTD(1)) AFTER refunded_minor;

CREATE OR REPLACE VIEW ${database}.current_conversions AS
SELECT
    r.advertiser AS advertiser, r.click_id AS click_id, r.kind AS kind, r.custom_kind AS custom_kind,
    r.transaction AS transaction,
    max((r.epoch, r.revision)).1 AS epoch,
    max((r.epoch, r.revision)).2 AS revision,
    min(r.time) AS first_time,
    argMax(r.state_time, (r.epoch, r.revision)) AS time,
    argMax(r.status, (r.epoch, r.revision)) AS status,
    argMax(r.payout_minor, (r.epoch, r.revision)) AS payout_minor,
    argMax(r.currency, (r.epoch, r.revision)) AS currency,
    argMax(r.payout, (r.epoch, r.revision)) AS payout,
    argMax(r.refunded_minor, (r.epoch, r.revision)) AS refunded_minor,
    argMax(r.last_refund, (r.epoch, r.revision)) AS last_refund,
    argMax(r.dialect, (r.epoch, r.revision)) AS dialect,
    any(r.link_id) AS link_id,
    any(r.click_time) AS click_time,
    any(r.click_node) AS click_node
FROM ${database}.conversions AS r
GROUP BY r.advertiser, r.click_id, r.kind, r.custom_kind, r.transaction
HAVING NOT argMax(r.withdrawn, (r.epoch, r.revision));

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
    COMMENT COLUMN refunded_minor 'What partial refunds have taken back of the amount, in the smallest unit of the currency.',
    COMMENT COLUMN last_refund 'Last refund: amount, currency, kind, fields stated, kind_name. Empty: none. unknown: of an earlier build.',
    COMMENT COLUMN dialect 'Dialect in which it was reported.',
    COMMENT COLUMN link_id 'Number of the link, from the signed click id.',
    COMMENT COLUMN click_time 'When the click was, from the signed click id.',
    COMMENT COLUMN click_node 'Edge node of the click, from the signed click id.',
    COMMENT COLUMN revision 'Number of the revision that counts.',
    COMMENT COLUMN first_time 'When it was first reported, UTC.',
    COMMENT COLUMN time 'When the report was made that brought it into this state, UTC.';
