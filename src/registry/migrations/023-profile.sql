-- What certificates of the account's devices may be, and what a provisioning key allows of that; and a profile that is tried without being enforced.  Texts
-- of pki/device_profile.h; '' is the default, and for shadow that there is none.
ALTER TABLE account ADD COLUMN profile TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN shadow TEXT NOT NULL DEFAULT '';
ALTER TABLE prov_key ADD COLUMN profile TEXT NOT NULL DEFAULT '';
