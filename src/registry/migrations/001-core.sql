CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO meta (name, value) VALUES ('epoch', 1), ('newest', 0), ('vault', 0);

CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 2),
    method INTEGER NOT NULL CHECK (method BETWEEN 1 AND 3),
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 3),
    created INTEGER NOT NULL,
    reprovision INTEGER NOT NULL,
    approval INTEGER NOT NULL,
    expected_only INTEGER NOT NULL,
    device_key INTEGER NOT NULL,
    device_life INTEGER NOT NULL,
    lost_answer_window INTEGER NOT NULL,
    issue_ceiling INTEGER NOT NULL
);

CREATE TABLE ca (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id),
    kind INTEGER NOT NULL,
    spki BLOB NOT NULL,
    der BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (account, kind, spki)
);

CREATE TABLE root (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL REFERENCES account (id),
    origin INTEGER NOT NULL,
    state INTEGER NOT NULL,
    state_before INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    spki BLOB NOT NULL,
    subject TEXT NOT NULL,
    der BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    id_rule INTEGER NOT NULL,
    key_rule INTEGER NOT NULL,
    challenge TEXT,
    challenge_expires INTEGER NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (account, spki)
);
CREATE INDEX root_spki ON root (spki);
CREATE INDEX root_fingerprint ON root (fingerprint, account);

CREATE TABLE prov_key (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    state INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    certificate_not_after INTEGER NOT NULL,
    max_devices INTEGER NOT NULL,
    spent INTEGER NOT NULL CHECK (spent >= 0),
    per_hour INTEGER NOT NULL,
    id_pattern TEXT NOT NULL,
    sources TEXT NOT NULL,
    build TEXT NOT NULL,
    spki BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    last_used INTEGER NOT NULL,
    UNIQUE (account, name),
    CHECK (max_devices = 0 OR spent <= max_devices)
);

-- Enrolments of the last hour, of keys that have a bound per hour.
CREATE TABLE key_hour (id INTEGER PRIMARY KEY, prov_key INTEGER NOT NULL REFERENCES prov_key (id), at INTEGER NOT NULL);
CREATE INDEX key_hour_key ON key_hour (prov_key, at);

CREATE TABLE device (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL REFERENCES account (id),
    device_id TEXT NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 5),
    state_before INTEGER NOT NULL,
    method INTEGER NOT NULL CHECK (method BETWEEN 1 AND 2),
    prov_key INTEGER REFERENCES prov_key (id),
    root INTEGER REFERENCES root (id),
    created INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    last_address TEXT NOT NULL,
    again INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    expected INTEGER NOT NULL,
    reason TEXT NOT NULL,
    certificate BLOB,
    certificate_not_after INTEGER NOT NULL,
    spki BLOB,
    issue_first INTEGER NOT NULL,
    issue_last_ms INTEGER NOT NULL,
    issue_count INTEGER NOT NULL,
    issue_used INTEGER NOT NULL,
    ecus TEXT,
    UNIQUE (account, device_id)
);
CREATE INDEX device_prov_key ON device (prov_key, id) WHERE prov_key IS NOT NULL;
CREATE INDEX device_root ON device (root, id) WHERE root IS NOT NULL;
CREATE INDEX device_state ON device (account, state, id);
CREATE INDEX device_account ON device (account, id);

CREATE TABLE device_key (
    account INTEGER NOT NULL REFERENCES account (id),
    spki BLOB NOT NULL,
    device INTEGER REFERENCES device (id),
    held INTEGER NOT NULL,
    barred INTEGER NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (account, spki)
) WITHOUT ROWID;
CREATE UNIQUE INDEX device_key_held ON device_key (spki) WHERE held = 1;
CREATE INDEX device_key_device ON device_key (device) WHERE device IS NOT NULL;

CREATE TABLE cert (
    id INTEGER PRIMARY KEY,
    serial BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    account INTEGER NOT NULL REFERENCES account (id),
    device INTEGER REFERENCES device (id),
    prov_key INTEGER REFERENCES prov_key (id),
    spki BLOB NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 5),
    der BLOB NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    created INTEGER NOT NULL,
    used INTEGER NOT NULL
);
CREATE INDEX cert_device ON cert (device) WHERE device IS NOT NULL;

CREATE TABLE expected (
    account INTEGER NOT NULL REFERENCES account (id),
    device_id TEXT NOT NULL,
    spki BLOB,
    created INTEGER NOT NULL,
    PRIMARY KEY (account, device_id)
) WITHOUT ROWID;

CREATE TABLE offer (
    device INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    spki BLOB NOT NULL,
    root INTEGER NOT NULL REFERENCES root (id),
    accepted INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (device, spki)
) WITHOUT ROWID;

CREATE TABLE audit (
    chain INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (chain, seq)
) WITHOUT ROWID;
CREATE TABLE audit_head (chain INTEGER NOT NULL PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL);
