-- What was refused at the gateway.  account 0: strangers.  The newest refusal has the highest id: one that comes again moves to the front.
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL,
    known INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    count INTEGER NOT NULL,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    device INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    address TEXT NOT NULL,
    source TEXT NOT NULL,
    host TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    tls TEXT NOT NULL,
    agent TEXT NOT NULL,
    serial TEXT NOT NULL,
    fingerprint BLOB,
    spki BLOB,
    subject TEXT NOT NULL,
    issuer TEXT NOT NULL,
    top_issuer TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL
);
CREATE INDEX refusal_account ON refusal (account, known, id);
CREATE INDEX refusal_of ON refusal (account, id);
CREATE INDEX refusal_source ON refusal (account, source, id);
CREATE INDEX refusal_code ON refusal (account, code, id);
CREATE INDEX refusal_device ON refusal (account, device_id, id);
CREATE INDEX refusal_address ON refusal (account, address, id);
CREATE INDEX refusal_serial ON refusal (account, serial, id);
CREATE INDEX refusal_fingerprint ON refusal (account, fingerprint, id);

-- The certificates that were shown, in PEM; apart, because a refusal that comes again rewrites its row.
CREATE TABLE refusal_chain (
    refusal BLOB NOT NULL PRIMARY KEY REFERENCES refusal (uuid) ON DELETE CASCADE,
    pem TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX root_subject ON root (subject);
