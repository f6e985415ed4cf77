-- Whether devices may have their keys made by the server over EST (serverkeygen).  An invitation that is spent for such a key has no spki.
ALTER TABLE account ADD COLUMN server_keygen INTEGER NOT NULL DEFAULT 0;
