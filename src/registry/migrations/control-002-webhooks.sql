CREATE TABLE webhook (
    id INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    account TEXT NOT NULL,
    url TEXT NOT NULL,
    events INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 2),
    why TEXT NOT NULL,
    ca TEXT NOT NULL,
    secret TEXT NOT NULL,
    secret_before TEXT NOT NULL,
    secret_before_until INTEGER NOT NULL,
    created INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    failing_since INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    last_success INTEGER NOT NULL,
    last_error TEXT NOT NULL
);
CREATE INDEX webhook_account ON webhook (account, id);

-- state 1: waits to be delivered; 2: a dead letter.
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook INTEGER NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
    event BLOB NOT NULL,
    kind INTEGER NOT NULL,
    subject BLOB,
    state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 2),
    created INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    last_error TEXT NOT NULL,
    payload TEXT NOT NULL,
    UNIQUE (webhook, event)
);
CREATE INDEX delivery_due ON delivery (webhook, state, next_at, id);
CREATE INDEX delivery_subject ON delivery (webhook, subject, id) WHERE state = 1 AND subject IS NOT NULL;
