-- Certificates by their public key: device_key leads to the device that has the key, and this to those of devices that are gone, which no key leads to.
CREATE INDEX cert_key_gone ON cert (account, spki, id) WHERE device IS NULL;
