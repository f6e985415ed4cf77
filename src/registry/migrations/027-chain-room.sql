-- Sets of CA certificates that no device shows any more are removed, and one with which every certificate has ended makes room for another.
CREATE INDEX device_chain ON device (chain) WHERE chain > 0;
CREATE INDEX chain_end ON chain (account, leaf_not_after);
DELETE FROM chain WHERE id NOT IN (SELECT chain FROM device WHERE chain > 0);
