-- Revocation lists of customers' fleet CAs, imported (root_crl.h).  issuer: SHA-256 of the key of the CA that signed it; signer: its certificate.  number:
-- big endian, without zeros in front; NULL: the list has none.  live 1: it counts; 0: it is being imported; 2: another took its place.
CREATE TABLE root_crl (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES account (id),
    root INTEGER NOT NULL REFERENCES root (id),
    issuer BLOB NOT NULL,
    signer BLOB NOT NULL,
    subject TEXT NOT NULL,
    number BLOB,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    hash BLOB NOT NULL,
    sum BLOB NOT NULL,
    entries INTEGER NOT NULL,
    imported INTEGER NOT NULL,
    live INTEGER NOT NULL
);
CREATE UNIQUE INDEX root_crl_live ON root_crl (account, issuer) WHERE live = 1;
CREATE INDEX root_crl_account ON root_crl (account, id);
CREATE INDEX root_crl_dead ON root_crl (account, id) WHERE live <> 1;
CREATE INDEX root_crl_due ON root_crl (account, next_update, root) WHERE live = 1 AND next_update > 0;
-- By the serial number, so that a certificate is found whatever list it stands on.
CREATE TABLE root_crl_entry (
    account INTEGER NOT NULL,
    serial BLOB NOT NULL,
    list INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    PRIMARY KEY (account, serial, list)
) WITHOUT ROWID;
CREATE INDEX root_crl_entry_list ON root_crl_entry (list);
