-- One-time codes of operators for one device ID each (EST with HTTP Basic), of which the hash alone is here.  A certificate that one of them got
-- has no prov_key.  spent: when it got it, for the device's key spki; 0: not yet.
-- Numbers are not given twice: whoever walks along them while others write misses none (audit_rows.c).
CREATE TABLE invitation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL REFERENCES account (id),
    device_id TEXT NOT NULL,
    code BLOB NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    spki BLOB,
    UNIQUE (account, device_id)
);
CREATE INDEX invitation_account ON invitation (account, id);
