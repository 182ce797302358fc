-- Users, API keys, sessions and sign-on. One text for SQLite and PostgreSQL. Times are microseconds since 1970; 0 is
-- never. An empty text is no value.

CREATE TABLE accounts_users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    -- Normalised; of a local user also the name to sign in with.
    email TEXT NOT NULL,
    -- 1: signs in with e-mail and password. 0: through the sign-on provider.
    is_local BIGINT NOT NULL,
    role TEXT NOT NULL,
    network BIGINT,
    affiliate BIGINT,
    advertiser BIGINT,
    -- 1: the membership follows from groups of the sign-on provider; 0: an operator assigned it.
    from_groups BIGINT NOT NULL,
    -- active, disabled or without_role.
    status TEXT NOT NULL,
    -- 1: the admin that signs in locally even if others may not. At most one.
    break_glass BIGINT NOT NULL,
    -- Argon2id in the PHC string format; empty until a password is set.
    password TEXT NOT NULL,
    -- Sealed.
    totp_secret TEXT NOT NULL,
    totp_confirmed BIGINT NOT NULL,
    -- The period of the last accepted code: no code is accepted twice.
    totp_last_step BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    last_sign_in BIGINT NOT NULL
);

CREATE UNIQUE INDEX accounts_users_local_email ON accounts_users (email) WHERE is_local = 1;
CREATE UNIQUE INDEX accounts_users_break_glass ON accounts_users (break_glass) WHERE break_glass = 1;
CREATE INDEX accounts_users_by_network ON accounts_users (network, id);

-- Subjects of sign-on providers. Accounts are never linked by e-mail: a provider that lets its users choose one would
-- give them the accounts of others.
CREATE TABLE accounts_identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (issuer, subject)
);

CREATE INDEX accounts_identities_by_user ON accounts_identities (user_id);

CREATE TABLE accounts_recovery_codes (
    user_id TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (user_id, hash)
);

-- Links that are used once: for the first admin, an invitation, a new password.
CREATE TABLE accounts_one_time_tokens (
    hash TEXT PRIMARY KEY,
    -- first_admin or set_password.
    purpose TEXT NOT NULL,
    user_id TEXT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE accounts_api_keys (
    -- The eight letters in the key.
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    user_id TEXT NOT NULL,
    label TEXT NOT NULL,
    -- Separated by spaces.
    scopes TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    revoked BIGINT NOT NULL,
    -- Written at most once a minute.
    last_used BIGINT NOT NULL,
    -- The key that replaces this one.
    replaced_by TEXT NOT NULL,
    -- The key whose request made this one: it is revoked with it.
    parent TEXT NOT NULL
);

CREATE INDEX accounts_api_keys_by_user ON accounts_api_keys (user_id, created);
CREATE INDEX accounts_api_keys_by_parent ON accounts_api_keys (parent);

CREATE TABLE accounts_sessions (
    -- Of the secret in the cookie.
    hash TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    -- password, totp, recovery_code, one_time_token or sign_on.
    method TEXT NOT NULL,
    created BIGINT NOT NULL,
    -- Written at most once a minute.
    last_seen BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    -- The client at sign-in, for the list of sessions.
    address TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    -- Of a sign-on: what a logout of the provider names.
    issuer TEXT NOT NULL,
    provider_session TEXT NOT NULL
);

CREATE INDEX accounts_sessions_by_user ON accounts_sessions (user_id, created);
CREATE INDEX accounts_sessions_by_provider ON accounts_sessions (issuer, provider_session);
CREATE INDEX accounts_sessions_by_expiry ON accounts_sessions (expires);

-- Failed attempts. The key is a pseudonym of an account's e-mail, an address, both, or a session.
CREATE TABLE accounts_throttles (
    key TEXT PRIMARY KEY,
    failures BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,
    last_failure BIGINT NOT NULL
);

CREATE INDEX accounts_throttles_by_time ON accounts_throttles (last_failure);

-- Addresses from which an account signed in. The key is a pseudonym of e-mail and address.
CREATE TABLE accounts_known_addresses (
    key TEXT PRIMARY KEY,
    expires BIGINT NOT NULL
);

CREATE INDEX accounts_known_addresses_by_expiry ON accounts_known_addresses (expires);

-- Values that are accepted once: states of sign-ons, ids of logout tokens.
CREATE TABLE accounts_used_values (
    hash TEXT PRIMARY KEY,
    expires BIGINT NOT NULL
);

CREATE INDEX accounts_used_values_by_expiry ON accounts_used_values (expires);
