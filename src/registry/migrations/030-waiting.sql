-- What was issued and not used yet, by when it ends: a device that lies in a warehouse stops as well.
CREATE INDEX cert_waiting ON cert (account, not_after, id) WHERE state = 1;
