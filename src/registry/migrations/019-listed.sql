-- Serial numbers of certificates that the registry does not know, and that stand on a revocation list which an operator handed over while the server
-- was in recovery (recovery_crl.h); code: what their holders are refused for.  They go with the recovery.
CREATE TABLE listed (
    account INTEGER NOT NULL REFERENCES account (id),
    serial BLOB NOT NULL,
    code TEXT NOT NULL,
    PRIMARY KEY (account, serial)
) WITHOUT ROWID;
