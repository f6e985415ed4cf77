-- Keys that a device asks for, by a request for the fleet CA or a certificate that it has shown: no other device's, in any account (own_key.h).
CREATE INDEX csr_key ON csr (spki);
CREATE INDEX offer_key ON offer (spki);
