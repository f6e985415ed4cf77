-- The newest certificate of its factory line that a device has shown for the key that it came with, and those of lines that were taken back (line_revoke.h): what a line has
-- signed stands in no other table.
ALTER TABLE device ADD COLUMN line_certificate BLOB;
ALTER TABLE device ADD COLUMN line_serial BLOB;
UPDATE device SET line_certificate = certificate WHERE line > 0 AND method = 2 AND spki = line_key;
CREATE INDEX device_line_certificate ON device (line_certificate) WHERE line_certificate IS NOT NULL;
CREATE INDEX device_line_serial ON device (line_serial) WHERE line_serial IS NOT NULL;
CREATE TABLE line_revoked (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id),
    fingerprint BLOB NOT NULL,
    spki BLOB NOT NULL,
    device_id TEXT NOT NULL,
    revoked INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    UNIQUE (account, fingerprint)
);
CREATE INDEX line_revoked_key ON line_revoked (account, spki, reason);
