-- The clock of the postback queue, which runs only while an aggregator works. One text for SQLite and PostgreSQL.

-- One row. Times of `outgoing_postbacks` and `outgoing_receivers` are of this clock. It continues from here after a
-- restart, independent of the system clock.
CREATE TABLE outgoing_clock (
    id BIGINT PRIMARY KEY,
    -- Microseconds; the first value is the time since 1970.
    steady BIGINT NOT NULL
);
