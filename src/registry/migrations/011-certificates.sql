-- When a certificate was revoked, by itself or with its device, and why (CRLReason, RFC 5280 5.3.1).  0: it was not; 1: nobody wrote down when.
-- It stands beside the state: one that was void or superseded stays that.  State 5 is what was the device's last when it was revoked.
ALTER TABLE cert ADD COLUMN revoked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cert ADD COLUMN reason INTEGER NOT NULL DEFAULT 0;
UPDATE cert SET revoked = 1 WHERE state = 5;
-- The device ID, once the device is gone (its tombstone was lifted).
ALTER TABLE cert ADD COLUMN was TEXT;
-- Lists of everything that was issued, each led by one of these.
CREATE INDEX cert_end ON cert (account, not_after, id);
CREATE INDEX cert_prov_key ON cert (prov_key, id);
CREATE INDEX cert_fingerprint ON cert (fingerprint);
CREATE INDEX cert_revoked ON cert (account, id) WHERE revoked > 0;
CREATE INDEX cert_was ON cert (account, was, id) WHERE was IS NOT NULL;
