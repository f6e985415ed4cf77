-- Certificates that are younger than the backup from which the server was put back, and so are in no other table (recovery_held.h).  state 1: it
-- waits for an operator; 2: it was left out, code says why.  Rows count while the server is in recovery, and go afterwards.
CREATE TABLE held (
    id INTEGER PRIMARY KEY,
    serial BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    account INTEGER NOT NULL REFERENCES account (id),
    device_id TEXT NOT NULL,
    der BLOB NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 2),
    code TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    address TEXT NOT NULL
);
CREATE INDEX held_state ON held (state, not_before, id);
