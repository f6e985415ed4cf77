-- What a device says of itself: the newest report of each kind.  Not in the table device, whose rows every admission reads; and without a
-- reference to it, which would need an index of its own: who drops a device drops these first.
CREATE TABLE device_report (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id),
    device INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    name TEXT NOT NULL,
    summary TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (account, device, kind)
);

-- The newest events of each device, a ring by seq.
CREATE TABLE device_event (
    account INTEGER NOT NULL REFERENCES account (id),
    device INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    event TEXT NOT NULL,
    received INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (account, device, seq)
) WITHOUT ROWID;
