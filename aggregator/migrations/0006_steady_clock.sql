-- How long aggregators have worked on the queue of postbacks. One text for SQLite and PostgreSQL.

-- One row. Times of `outgoing_postbacks` and `outgoing_receivers` are by this clock, which goes on from here
-- after a restart, whatever the system clock shows.
CREATE TABLE outgoing_clock (
    id BIGINT PRIMARY KEY,
    -- Microseconds; at the beginning those since 1970.
    steady BIGINT NOT NULL
);
