-- What affiliates are told of their conversions. One text for SQLite and PostgreSQL.

-- One row for each revision of a conversion that somebody may want to be told.
CREATE TABLE outgoing_postbacks (
    -- The conversion's, with its revision.
    identity TEXT NOT NULL,
    revision BIGINT NOT NULL,
    -- awaits_click: the click it is due to is not in ClickHouse yet; due; and, at the end, delivered,
    -- refused (the receiver said no), given_up (it did not answer in time), click_unknown.
    state TEXT NOT NULL,
    -- When something is to be done about it. Whoever sends it moves this ahead first.
    due BIGINT NOT NULL,
    -- Since when it has been in this way: queued, or to be sent.
    since BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    -- Campaign and affiliate, CAMPAIGN/AFFILIATE; empty until the click is known.
    receiver TEXT NOT NULL,
    -- What is told of the click (JSON).
    click TEXT NOT NULL,
    -- The last attempt's status code, 0 without one, and what went wrong.
    last_status BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    PRIMARY KEY (identity, revision)
);

CREATE INDEX outgoing_postbacks_by_receiver ON outgoing_postbacks (state, receiver, due);
CREATE INDEX outgoing_postbacks_by_time ON outgoing_postbacks (state, due);

-- Receivers that have postbacks to be sent: one that fails waits, and holds up no other.
CREATE TABLE outgoing_receivers (
    receiver TEXT PRIMARY KEY,
    -- When the next of its postbacks is due, and not before `held_until`.
    next_due BIGINT NOT NULL,
    held_until BIGINT NOT NULL,
    -- Attempts that failed since one did not.
    failures BIGINT NOT NULL
);

CREATE INDEX outgoing_receivers_by_time ON outgoing_receivers (next_due);
