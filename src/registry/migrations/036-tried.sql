-- Settings of an account, bounds of a provisioning key and rules of a fleet root that are tried: they refuse nobody (tried.h).  "": nothing is.
ALTER TABLE account ADD COLUMN tried TEXT NOT NULL DEFAULT '';
ALTER TABLE prov_key ADD COLUMN tried TEXT NOT NULL DEFAULT '';
ALTER TABLE root ADD COLUMN tried TEXT NOT NULL DEFAULT '';
-- Whether nothing hangs on the answer (hook.h: enum hook_trial).  Those that are only tried take no room from the others.
ALTER TABLE ask ADD COLUMN trial INTEGER NOT NULL DEFAULT 0;
CREATE INDEX ask_many ON ask (account, trial);
DROP INDEX ask_waits;
CREATE INDEX ask_waits ON ask (id) WHERE state = 1 AND trial = 0;
CREATE INDEX ask_waits_trial ON ask (id) WHERE state = 1 AND trial > 0;
