-- Amounts that were rounded: those of binary fractions, and parts of a minor unit.
ALTER TABLE ${database}.conversions
    ADD COLUMN IF NOT EXISTS payout_as_sent String DEFAULT ''
    COMMENT 'The amount as the advertiser wrote it, if it was rounded to payout, else empty'
    CODEC(ZSTD(1)) AFTER payout;

ALTER TABLE ${database}.conversion_repeats
    ADD COLUMN IF NOT EXISTS payout_as_sent String DEFAULT ''
    COMMENT 'The amount as the advertiser wrote it, if it was rounded to payout, else empty'
    CODEC(ZSTD(1)) AFTER payout;
