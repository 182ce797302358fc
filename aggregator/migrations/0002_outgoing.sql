-- Postbacks to affiliates about their conversions. One text for SQLite and PostgreSQL.

-- One row for each revision of a conversion that an affiliate may have subscribed to.
CREATE TABLE outgoing_postbacks (
    -- Identity and revision of the conversion.
    identity TEXT NOT NULL,
    revision BIGINT NOT NULL,
    -- awaits_click: its click is not in ClickHouse yet; due; and the final states: delivered, refused (the
    -- receiver rejected it), given_up (no response in time), click_unknown, unwanted (no subscription).
    state TEXT NOT NULL,
    -- The time of the next attempt or look-up. A sender moves it ahead before it sends.
    due BIGINT NOT NULL,
    -- The start of its time in this state.
    since BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    -- Campaign and affiliate, CAMPAIGN/AFFILIATE; empty until the click is known.
    receiver TEXT NOT NULL,
    -- The click's fields for the postback (JSON).
    click TEXT NOT NULL,
    -- Status code (0: no response) and error of the last attempt.
    last_status BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    PRIMARY KEY (identity, revision)
);

CREATE INDEX outgoing_postbacks_by_receiver ON outgoing_postbacks (state, receiver, due);
CREATE INDEX outgoing_postbacks_by_time ON outgoing_postbacks (state, due);

-- Receivers with postbacks to send. One that fails is retried later and does not delay the others.
CREATE TABLE outgoing_receivers (
    receiver TEXT PRIMARY KEY,
    -- The time of its next postback, never before `held_until`.
    next_due BIGINT NOT NULL,
    held_until BIGINT NOT NULL,
    -- Failed attempts since the last success.
    failures BIGINT NOT NULL
);

CREATE INDEX outgoing_receivers_by_time ON outgoing_receivers (next_due);
