-- Factory lines: whom an operator lets bring devices in by a CA of their own, and within which bounds (line.h).  spki: SHA-256 of that CA's key; spent: devices that
-- came in by it; held: those that were registered outside its bounds, and wait.
CREATE TABLE line (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL REFERENCES account (id),
    root INTEGER NOT NULL REFERENCES root (id),
    name TEXT NOT NULL,
    state INTEGER NOT NULL,
    spki BLOB NOT NULL,
    der BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    max_devices INTEGER NOT NULL,
    spent INTEGER NOT NULL CHECK (spent >= 0),
    held INTEGER NOT NULL,
    id_pattern TEXT NOT NULL,
    begins INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (account, name),
    UNIQUE (account, spki),
    CHECK (spent <= max_devices)
);
CREATE INDEX line_account ON line (account, id);
-- The line that brought a device.
ALTER TABLE device ADD COLUMN line INTEGER NOT NULL DEFAULT 0;
CREATE INDEX device_line ON device (line, id) WHERE line > 0;
