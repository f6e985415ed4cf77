-- Of a server that was put back from a backup: when that was, and when the backup was made; 0: it was not, or is whole again (recovery.h).
INSERT INTO meta (name, value) VALUES ('recovery', 0), ('recovery_of', 0);
