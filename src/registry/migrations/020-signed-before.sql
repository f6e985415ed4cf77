-- Certificates whose issuing CA the registry learns of after they were issued (account.c): they have their issuer once it has it.
UPDATE cert SET issuer = (SELECT ca.id FROM ca WHERE ca.account = cert.account AND ca.kind = 1 AND instr(cert.der, x'0603551d23041830168014' || ca.key_id) > 0 ORDER BY ca.id DESC LIMIT 1)
    WHERE issuer IS NULL;
CREATE INDEX cert_no_issuer ON cert (account, created) WHERE issuer IS NULL;
UPDATE crl_revision SET n = n + 1;
-- Without its row in crl_revision an account's lists would not be made again: whatever raises a revision makes one that is missing.
DROP TRIGGER crl_root;
CREATE TRIGGER crl_root AFTER UPDATE OF state ON root WHEN NEW.origin = 2 AND NEW.state <> OLD.state BEGIN
    INSERT INTO crl_revision (account, n) VALUES (NEW.account, 1) ON CONFLICT (account) DO UPDATE SET n = n + 1;
END;
DROP TRIGGER crl_root_new;
CREATE TRIGGER crl_root_new AFTER INSERT ON root WHEN NEW.origin = 2 BEGIN
    INSERT INTO crl_revision (account, n) VALUES (NEW.account, 1) ON CONFLICT (account) DO UPDATE SET n = n + 1;
END;
DROP TRIGGER crl_cert;
CREATE TRIGGER crl_cert AFTER UPDATE OF revoked, reason ON cert WHEN NEW.revoked <> OLD.revoked OR NEW.reason <> OLD.reason BEGIN
    INSERT INTO crl_revision (account, n) VALUES (NEW.account, 1) ON CONFLICT (account) DO UPDATE SET n = n + 1;
END;
DROP TRIGGER crl_device;
CREATE TRIGGER crl_device AFTER UPDATE OF state, issue_count ON device
    WHEN NEW.state <> OLD.state OR (NEW.state <> 1 AND NEW.issue_count <> OLD.issue_count) BEGIN
    INSERT INTO crl_revision (account, n) VALUES (NEW.account, 1) ON CONFLICT (account) DO UPDATE SET n = n + 1;
END;
DROP TRIGGER crl_device_new;
CREATE TRIGGER crl_device_new AFTER INSERT ON device WHEN NEW.state <> 1 BEGIN
    INSERT INTO crl_revision (account, n) VALUES (NEW.account, 1) ON CONFLICT (account) DO UPDATE SET n = n + 1;
END;
