-- The newest list of each CA (crl.h), whose bytes lie in DIR/crl.  revision: of the account when its entries were read.
CREATE TABLE crl (
    account TEXT NOT NULL,
    key_id BLOB NOT NULL,
    kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 2),
    subject TEXT NOT NULL,
    number INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    PRIMARY KEY (account, key_id)
) WITHOUT ROWID;
