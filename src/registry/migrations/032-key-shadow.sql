-- What a provisioning key would allow of its account's issuing profile, tried: it refuses nobody.  "": nothing is tried.
ALTER TABLE prov_key ADD COLUMN shadow TEXT NOT NULL DEFAULT '';
