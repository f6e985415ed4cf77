-- What becomes of known devices when their uploaded root, or a CA between it and them, has expired: 1 they are refused, 2 they go on.
ALTER TABLE root ADD COLUMN expired INTEGER NOT NULL DEFAULT 1;
