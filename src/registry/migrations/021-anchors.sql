-- Fleet roots of Muster's own can be rotated.  Which one the account issues under: the newest; 0: it has none.
ALTER TABLE account ADD COLUMN own_root INTEGER NOT NULL DEFAULT 0;
UPDATE account SET own_root = COALESCE((SELECT MAX(id) FROM root WHERE root.account = account.id AND root.origin = 2), 0);
-- The fleet root, made or uploaded, under which the certificate stands that a device has, or is about to have; 0: not known.
ALTER TABLE device ADD COLUMN anchor INTEGER NOT NULL DEFAULT 0;
UPDATE device SET anchor = CASE method WHEN 1 THEN (SELECT own_root FROM account WHERE account.id = device.account) ELSE COALESCE(root, 0) END;
CREATE INDEX device_anchor ON device (anchor, seen_hour, state) WHERE anchor > 0;
-- A root's key certified by another root's, for verifiers that know the other one alone.
CREATE TABLE root_cross (
    root INTEGER NOT NULL REFERENCES root (id),
    issuer INTEGER NOT NULL REFERENCES root (id),
    der BLOB NOT NULL,
    PRIMARY KEY (root, issuer)
) WITHOUT ROWID;
