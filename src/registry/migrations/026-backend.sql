-- Where the private keys of an account's CAs are made: 1 sealed in the vault, 2 in a token behind a PKCS#11 module.
ALTER TABLE account ADD COLUMN backend INTEGER NOT NULL DEFAULT 1;
