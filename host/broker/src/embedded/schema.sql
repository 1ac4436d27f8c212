CREATE TABLE queues (name TEXT PRIMARY KEY) WITHOUT ROWID;

-- A consumer that does not renew its lease is taken for dead, and its messages go back.
CREATE TABLE consumers (
    id TEXT PRIMARY KEY,
    lease_until INTEGER NOT NULL -- milliseconds since 1970
) WITHOUT ROWID;

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of arrival
    queue TEXT NOT NULL,
    consumer TEXT, -- has the message, unsettled; none while it is in the queue
    available_at INTEGER, -- milliseconds since 1970; none once that is past; the largest number: it can't be read
    redelivered INTEGER NOT NULL DEFAULT 0,
    exchange TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    content_type TEXT,
    content_encoding TEXT,
    persistent INTEGER NOT NULL,
    priority INTEGER,
    correlation_id TEXT,
    reply_to TEXT,
    expiration TEXT,
    message_id TEXT,
    headers TEXT NOT NULL, -- a JSON object
    body BLOB NOT NULL,
    properties TEXT NOT NULL DEFAULT '{}' -- a JSON object: those without a column of their own
);
CREATE INDEX ready ON messages (queue, ifnull(priority, 0) DESC, id) WHERE consumer IS NULL AND available_at IS NULL;
CREATE INDEX held_back ON messages (available_at) WHERE available_at IS NOT NULL;
CREATE INDEX consumed ON messages (consumer) WHERE consumer IS NOT NULL;
