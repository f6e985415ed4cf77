-- What webhooks are told of, until control has taken it over.
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    account TEXT NOT NULL,
    kind INTEGER NOT NULL,
    subject BLOB,
    at INTEGER NOT NULL,
    payload TEXT NOT NULL
);
-- Which kinds anybody wants, a bit each; account 0: of every account.  The webhooks themselves are in control.db.
CREATE TABLE event_wanted (account INTEGER NOT NULL PRIMARY KEY, events INTEGER NOT NULL);
-- Up to which end (and row of that end) the account was told of what expires within so many days.
CREATE TABLE event_swept (
    account INTEGER NOT NULL,
    what INTEGER NOT NULL,
    days INTEGER NOT NULL,
    until INTEGER NOT NULL,
    until_row INTEGER NOT NULL,
    PRIMARY KEY (account, what, days)
) WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('events_lost', 0);
CREATE INDEX device_expiry ON device (account, certificate_not_after, id) WHERE state <= 2 AND certificate_not_after > 0;
CREATE INDEX prov_key_expiry ON prov_key (account, expires, id) WHERE state = 1;
