-- What control writes it seals with a key that the gateway does not have (audit_seal.h).
ALTER TABLE audit ADD COLUMN seal BLOB;
