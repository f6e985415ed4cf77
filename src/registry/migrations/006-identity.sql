-- Which devices a provisioning key has given a certificate, in their order: lists of a key's devices, and acting on them, go by this.
CREATE INDEX cert_key ON cert (prov_key, device, created) WHERE state IN (1, 2, 5);
DROP INDEX device_prov_key;
-- Whether an enrolment's certificate was used is said by the certificate.
ALTER TABLE device DROP COLUMN issue_used;
