-- Devices whose certificates end soon are counted without a look at the others.
CREATE INDEX device_certificate_end ON device (account, certificate_not_after, state) WHERE certificate_not_after > 0;
