-- The CA certificates between devices' certificates and their fleet root, as devices under an uploaded root show them: a row for each set under a
-- root, DER behind DER.  leaf: of the certificates that were shown with them the one that ends last, so that they can be judged as of a day to come.
CREATE TABLE chain (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id),
    root INTEGER NOT NULL REFERENCES root (id),
    hash BLOB NOT NULL,
    cas BLOB NOT NULL,
    leaf BLOB NOT NULL,
    leaf_not_after INTEGER NOT NULL,
    UNIQUE (root, hash)
);
CREATE INDEX chain_account ON chain (account, id);
-- The row of the device's own; 0: not known yet, or no such device.
ALTER TABLE device ADD COLUMN chain INTEGER NOT NULL DEFAULT 0;
-- Whether the device asks for certificates itself (EST) and so can renew; a stock client of POST /devices cannot.  Of certificates from before,
-- what was renewed once is known to be such a device's.
ALTER TABLE cert ADD COLUMN renews INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN renews INTEGER NOT NULL DEFAULT 0;
UPDATE cert SET renews = 1 WHERE enrolled <> created;
UPDATE device SET renews = 1 WHERE id IN (SELECT device FROM cert WHERE renews = 1 AND state = 2);
