-- Tables of the peers. `messages` is all that uws and socketio write; the rest is that of fair.
CREATE SCHEMA IF NOT EXISTS bench_peers;

CREATE TABLE IF NOT EXISTS bench_peers.messages (
    id                uuid        PRIMARY KEY,
    conversation_id   text,
    client_message_id text,
    content           text,
    created_at        timestamptz DEFAULT now()
);

CREATE TABLE IF NOT EXISTS bench_peers.conversations (
    conversation_id uuid   PRIMARY KEY,
    last_seq        bigint NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS bench_peers.members (
    conversation_id uuid NOT NULL REFERENCES bench_peers.conversations,
    user_id         text NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
);

CREATE TABLE IF NOT EXISTS bench_peers.entries (
    message_id        uuid        PRIMARY KEY,
    conversation_id   uuid        NOT NULL REFERENCES bench_peers.conversations,
    seq               bigint      NOT NULL,
    sender_id         text        NOT NULL,
    content           text        NOT NULL,
    client_message_id text        NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (conversation_id, seq),
    UNIQUE (sender_id, client_message_id)
);

CREATE TABLE IF NOT EXISTS bench_peers.outbox (
    conversation_id uuid        NOT NULL,
    seq             bigint      NOT NULL,
    value           jsonb       NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, seq)
);

-- Accepts a message in one transaction and one round trip. `stored` is null when the sender is no member. Each statement
-- has a snapshot of its own: what is read after the lock is what was committed before it.
CREATE OR REPLACE FUNCTION bench_peers.accept(
    message uuid, conversation uuid, sender text, body text, key text, OUT stored uuid, OUT place bigint, OUT replayed boolean
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM 1 FROM bench_peers.conversations c WHERE c.conversation_id = conversation FOR NO KEY UPDATE;
    PERFORM 1 FROM bench_peers.members m WHERE m.conversation_id = conversation AND m.user_id = sender;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT e.message_id, e.seq, true INTO stored, place, replayed
    FROM bench_peers.entries e WHERE e.sender_id = sender AND e.client_message_id = key;
    IF FOUND THEN
        RETURN;
    END IF;
    UPDATE bench_peers.conversations c SET last_seq = c.last_seq + 1 WHERE c.conversation_id = conversation
    RETURNING c.last_seq INTO place;
    INSERT INTO bench_peers.entries (message_id, conversation_id, seq, sender_id, content, client_message_id)
    VALUES (message, conversation, place, sender, body, key);
    INSERT INTO bench_peers.outbox (conversation_id, seq, value)
    VALUES (conversation, place, jsonb_build_object('messageId', message, 'seq', place, 'senderId', sender, 'content', body));
    stored := message;
    replayed := false;
END
$$;
