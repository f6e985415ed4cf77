-- Keys that a device asks for, by a request for the fleet CA or a certificate that it has shown: no other device's, in any account (own_key.h).
CREATE INDEX csr_key ON csr (spki);
CREATE INDEX offer_key ON offer (spki);
-- Under which root the imported certificate held; 0: it is not known, or there is none yet.
ALTER TABLE csr ADD COLUMN root INTEGER NOT NULL DEFAULT 0;
