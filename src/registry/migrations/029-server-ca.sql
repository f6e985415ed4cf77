-- The server CAs, by which devices trust the gateway, in the order in which the vault made them.  state: 1 current, 2 former, 3 retired.
CREATE TABLE server_ca (
    number INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    spki BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    subject TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 3)
);
-- The newest one that the device is known to have been given; 0: none is, and so the first.
ALTER TABLE device ADD COLUMN server_ca INTEGER NOT NULL DEFAULT 0;
-- What comes with the certificate, for when it becomes the device's; -1: nothing does, and the device keeps what it has.
ALTER TABLE cert ADD COLUMN server_ca INTEGER NOT NULL DEFAULT 0;
