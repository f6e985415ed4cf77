-- Enrolments of the last hour: a row a second and key instead of a row an enrolment, and their sum with the key, so that an enrolment reads one
-- number where it counted all that were before it.
CREATE TABLE key_second (
    prov_key INTEGER NOT NULL REFERENCES prov_key (id),
    at INTEGER NOT NULL,
    n INTEGER NOT NULL CHECK (n > 0),
    PRIMARY KEY (prov_key, at)
) WITHOUT ROWID;
INSERT INTO key_second (prov_key, at, n) SELECT prov_key, at, COUNT(*) FROM key_hour GROUP BY prov_key, at;
DROP TABLE key_hour;
ALTER TABLE key_second RENAME TO key_hour;
ALTER TABLE prov_key ADD COLUMN in_hour INTEGER NOT NULL DEFAULT 0 CHECK (in_hour >= 0);
UPDATE prov_key SET in_hour = (SELECT COALESCE(SUM(n), 0) FROM key_hour WHERE prov_key = prov_key.id);
