-- Whether an account asks somebody outside before it issues (model.h: enum hook_rule), and what is asked: a row for one device, credential and key, until the
-- answer is used or over.
ALTER TABLE account ADD COLUMN hook INTEGER NOT NULL DEFAULT 1;
CREATE TABLE ask (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL,
    what BLOB NOT NULL,
    state INTEGER NOT NULL,
    until INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    renews INTEGER NOT NULL,
    brought TEXT NOT NULL,
    spki BLOB,
    address TEXT NOT NULL,
    reason TEXT NOT NULL,
    UNIQUE (account, what)
);
CREATE INDEX ask_over ON ask (account, until);
CREATE INDEX ask_waits ON ask (id) WHERE state = 1;
