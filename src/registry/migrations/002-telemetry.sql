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

-- Lists by when a device was last seen.  By the hour: last_seen itself moves every few minutes, and an index on it would move with it.
ALTER TABLE device ADD COLUMN seen_hour INTEGER NOT NULL DEFAULT 0;
UPDATE device SET seen_hour = last_seen / 3600;
CREATE INDEX device_seen ON device (account, seen_hour, id);

-- How many devices there are of each sort; exact, because the triggers count in the transaction that changes the device.  0 stands for none.
CREATE TABLE device_count (
    account INTEGER NOT NULL,
    root INTEGER NOT NULL,
    method INTEGER NOT NULL,
    state INTEGER NOT NULL,
    n INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (account, root, method, state)
) WITHOUT ROWID;
INSERT INTO device_count (account, root, method, state, n)
    SELECT account, COALESCE(root, 0), method, state, COUNT(*) FROM device GROUP BY 1, 2, 3, 4;
CREATE TRIGGER device_counted AFTER INSERT ON device BEGIN
    INSERT INTO device_count (account, root, method, state, n)
        VALUES (NEW.account, COALESCE(NEW.root, 0), NEW.method, NEW.state, 1)
        ON CONFLICT (account, root, method, state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER device_uncounted AFTER DELETE ON device BEGIN
    UPDATE device_count SET n = n - 1 WHERE account = OLD.account AND root = COALESCE(OLD.root, 0)
        AND method = OLD.method AND state = OLD.state;
END;
CREATE TRIGGER device_recounted AFTER UPDATE OF account, root, method, state ON device BEGIN
    UPDATE device_count SET n = n - 1 WHERE account = OLD.account AND root = COALESCE(OLD.root, 0)
        AND method = OLD.method AND state = OLD.state;
    INSERT INTO device_count (account, root, method, state, n)
        VALUES (NEW.account, COALESCE(NEW.root, 0), NEW.method, NEW.state, 1)
        ON CONFLICT (account, root, method, state) DO UPDATE SET n = n + 1;
END;

-- How many devices each provisioning key has given a certificate that lives, waits, or was revoked with its device (states 1, 2 and 5): each
-- device once, however many certificates it has.
CREATE TABLE key_count (prov_key INTEGER NOT NULL PRIMARY KEY, n INTEGER NOT NULL CHECK (n >= 0));
INSERT INTO key_count (prov_key, n)
    SELECT prov_key, COUNT(DISTINCT device) FROM cert WHERE prov_key IS NOT NULL AND device IS NOT NULL AND state IN (1, 2, 5) GROUP BY prov_key;
CREATE TRIGGER key_counted AFTER INSERT ON cert WHEN NEW.prov_key IS NOT NULL AND NEW.device IS NOT NULL AND NEW.state IN (1, 2, 5) BEGIN
    INSERT INTO key_count (prov_key, n) SELECT NEW.prov_key, 1
        WHERE NOT EXISTS (SELECT 1 FROM cert WHERE prov_key = NEW.prov_key AND device = NEW.device AND state IN (1, 2, 5) AND id <> NEW.id)
        ON CONFLICT (prov_key) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER key_uncounted AFTER DELETE ON cert WHEN OLD.prov_key IS NOT NULL AND OLD.device IS NOT NULL AND OLD.state IN (1, 2, 5) BEGIN
    UPDATE key_count SET n = n - 1 WHERE prov_key = OLD.prov_key
        AND NOT EXISTS (SELECT 1 FROM cert WHERE prov_key = OLD.prov_key AND device = OLD.device AND state IN (1, 2, 5));
END;
-- Only where a certificate has come to count, or has ceased to.
CREATE TRIGGER key_recounted AFTER UPDATE OF state, device, prov_key ON cert
    WHEN (OLD.state IN (1, 2, 5)) <> (NEW.state IN (1, 2, 5)) OR OLD.device IS NOT NEW.device OR OLD.prov_key IS NOT NEW.prov_key BEGIN
    UPDATE key_count SET n = n - 1 WHERE prov_key = OLD.prov_key AND OLD.device IS NOT NULL AND OLD.state IN (1, 2, 5)
        AND NOT EXISTS (SELECT 1 FROM cert WHERE prov_key = OLD.prov_key AND device = OLD.device AND state IN (1, 2, 5) AND id <> NEW.id);
    INSERT INTO key_count (prov_key, n) SELECT NEW.prov_key, 1
        WHERE NEW.prov_key IS NOT NULL AND NEW.device IS NOT NULL AND NEW.state IN (1, 2, 5)
        AND NOT EXISTS (SELECT 1 FROM cert WHERE prov_key = NEW.prov_key AND device = NEW.device AND state IN (1, 2, 5) AND id <> NEW.id)
        ON CONFLICT (prov_key) DO UPDATE SET n = n + 1;
END;

-- Pages of keys and roots, and whether an uploaded root is one of Muster's own CAs.
CREATE INDEX prov_key_account ON prov_key (account, id);
CREATE INDEX root_account ON root (account, id);
CREATE INDEX ca_spki ON ca (spki);
