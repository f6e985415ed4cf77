-- What factory lines have told of themselves (line_told.h): of each manifest the number of its entries and the hash of its chain up to there, which is of all of them.
-- continues: the row with the most entries of those that it began with when it came, or 0.  set_aside: an operator has taken another manifest that contradicts it, or is shorter, for the line's word.
CREATE TABLE line_told (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    line INTEGER NOT NULL REFERENCES line (id),
    entries INTEGER NOT NULL CHECK (entries >= 0),
    digest BLOB NOT NULL,
    at INTEGER NOT NULL,
    told INTEGER NOT NULL,
    continues INTEGER NOT NULL,
    set_aside INTEGER NOT NULL DEFAULT 0,
    UNIQUE (line, entries, digest)
);
CREATE INDEX line_told_line ON line_told (line, id);
CREATE INDEX line_told_standing ON line_told (line, set_aside, id);
