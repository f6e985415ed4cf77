-- When the provisioning key brought the device in whose certificate this is: of an enrolment's that is when it was made, and a renewed one has
-- it from the one before, so that what a key has done since some time is found however often its devices renew.
ALTER TABLE cert ADD COLUMN enrolled INTEGER NOT NULL DEFAULT 0;
UPDATE cert SET enrolled = created;
DROP INDEX cert_key;
CREATE INDEX cert_key ON cert (prov_key, device, enrolled) WHERE state IN (1, 2, 5);
