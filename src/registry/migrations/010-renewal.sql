-- When devices may renew: how long before its end a certificate is renewed (0: at any time), how long behind its end it is good for that and
-- nothing else, and how long one is that the device has replaced already.
ALTER TABLE account ADD COLUMN renewal_window INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN late_renewal INTEGER NOT NULL DEFAULT 7776000;
ALTER TABLE account ADD COLUMN superseded_renewal INTEGER NOT NULL DEFAULT 2592000;
