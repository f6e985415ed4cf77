-- What control alone knows: it puts the key of the seals there itself, since what the supervisor has in its memory its children have too.  audit_unsealed: where each log stood when its entries began to be sealed.
ALTER TABLE audit ADD COLUMN seal BLOB;
CREATE TABLE secret (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE audit_unsealed (chain TEXT NOT NULL PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID;
-- What an operator last wanted each account to be (account_told.h); before: while a change is under way, what it was.
CREATE TABLE account_told (name TEXT NOT NULL PRIMARY KEY, settings TEXT NOT NULL, before TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('sealed', 0);
