-- What certificate revocation lists are made of (crl.h).  A CA's subject key identifier, which Muster's own always have in this form.
ALTER TABLE ca ADD COLUMN key_id BLOB;
UPDATE ca SET key_id = substr(der, instr(der, x'0603551d0e04160414') + 9, 20) WHERE instr(der, x'0603551d0e04160414') > 0;
-- Which issuing CA signed a certificate: the one whose key its authorityKeyIdentifier names, which stands at its end; in front of it only in
-- certificates with a subjectAltName, which are those of long device IDs.
ALTER TABLE cert ADD COLUMN issuer INTEGER REFERENCES ca (id);
UPDATE cert SET issuer = COALESCE(
    (SELECT ca.id FROM ca WHERE ca.account = cert.account AND ca.kind = 1 AND instr(substr(cert.der, -135), x'0603551d23041830168014' || ca.key_id) > 0),
    (SELECT ca.id FROM ca WHERE ca.account = cert.account AND ca.kind = 1 AND instr(cert.der, x'0603551d23041830168014' || ca.key_id) > 0 ORDER BY ca.id DESC LIMIT 1));
CREATE INDEX cert_crl ON cert (issuer, id, not_after, serial, revoked, reason, created) WHERE revoked > 0;
-- What is left of a device's certificates besides those that may be used: a device that is revoked takes them with it onto the list.
CREATE INDEX cert_left ON cert (device) WHERE revoked = 0 AND state >= 3;
-- Goes up with whatever changes a list of the account's CAs; no row: it has no CA.
CREATE TABLE crl_revision (account INTEGER NOT NULL PRIMARY KEY REFERENCES account (id), n INTEGER NOT NULL);
INSERT INTO crl_revision (account, n) SELECT DISTINCT account, 1 FROM ca WHERE kind = 1;
CREATE TRIGGER crl_ca AFTER INSERT ON ca WHEN NEW.kind = 1 BEGIN
    INSERT INTO crl_revision (account, n) VALUES (NEW.account, 1) ON CONFLICT (account) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER crl_root AFTER UPDATE OF state ON root WHEN NEW.origin = 2 AND NEW.state <> OLD.state BEGIN
    UPDATE crl_revision SET n = n + 1 WHERE account = NEW.account;
END;
CREATE TRIGGER crl_root_new AFTER INSERT ON root WHEN NEW.origin = 2 BEGIN
    UPDATE crl_revision SET n = n + 1 WHERE account = NEW.account;
END;
CREATE TRIGGER crl_cert AFTER UPDATE OF revoked, reason ON cert WHEN NEW.revoked <> OLD.revoked OR NEW.reason <> OLD.reason BEGIN
    UPDATE crl_revision SET n = n + 1 WHERE account = NEW.account;
END;
CREATE TRIGGER crl_device AFTER UPDATE OF state, issue_count ON device
    WHEN NEW.state <> OLD.state OR (NEW.state <> 1 AND NEW.issue_count <> OLD.issue_count) BEGIN
    UPDATE crl_revision SET n = n + 1 WHERE account = NEW.account;
END;
CREATE TRIGGER crl_device_new AFTER INSERT ON device WHEN NEW.state <> 1 BEGIN
    UPDATE crl_revision SET n = n + 1 WHERE account = NEW.account;
END;
