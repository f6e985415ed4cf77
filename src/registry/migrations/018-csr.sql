-- Requests of devices for certificates of the customer's own fleet CA, one a device: der, for the key spki.  certificate: what an operator has
-- brought for it; NULL: it waits for one.
CREATE TABLE csr (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL REFERENCES account (id),
    device INTEGER NOT NULL UNIQUE REFERENCES device (id),
    spki BLOB NOT NULL,
    der BLOB NOT NULL,
    created INTEGER NOT NULL,
    certificate BLOB,
    fingerprint BLOB,
    not_after INTEGER NOT NULL,
    imported INTEGER NOT NULL,
    UNIQUE (account, spki)
);
CREATE INDEX csr_account ON csr (account, id);
ALTER TABLE account ADD COLUMN csr_queue INTEGER NOT NULL DEFAULT 0;
