-- depends: 0009.operators
-- What users do to others by consent only: invitations, and the facts by which a policy decides.

-- Presence is shown where its user has written; acquaintances are those who share such a conversation.
-- hidden_up_to: the change log up to this seq is not for this member, who came later.
ALTER TABLE members
    ADD COLUMN has_written  boolean NOT NULL DEFAULT false,
    ADD COLUMN hidden_up_to bigint  NOT NULL DEFAULT 0;
UPDATE members SET has_written = true
FROM (SELECT DISTINCT conversation_id, sender_id FROM messages) AS wrote
WHERE wrote.conversation_id = members.conversation_id AND wrote.sender_id = members.user_id;

-- Who was a member and is none, and who ended it: the user, or somebody else.
CREATE TABLE former_members (
    conversation_id uuid        NOT NULL REFERENCES conversations,
    user_id         text        NOT NULL,
    ended_by        text        NOT NULL,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);
INSERT INTO former_members (conversation_id, user_id, ended_by, at)
SELECT DISTINCT ON (ch.conversation_id, ch.data->>'userId')
       ch.conversation_id, ch.data->>'userId', ch.data->>'by', ch.at
FROM changes ch
WHERE ch.kind = 'member_removed'
  AND NOT EXISTS (SELECT 1 FROM members m
                  WHERE m.conversation_id = ch.conversation_id AND m.user_id = ch.data->>'userId')
ORDER BY ch.conversation_id, ch.data->>'userId', ch.seq DESC;

-- Open invitations. An answer removes the row.
CREATE TABLE invitations (
    conversation_id uuid        NOT NULL REFERENCES conversations,
    user_id         text        NOT NULL,
    invited_by      text        NOT NULL,
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX invitations_by_user ON invitations (user_id, at DESC, conversation_id DESC);
CREATE INDEX invitations_by_inviter ON invitations (invited_by, user_id);

CREATE TABLE declined_inviters (
    user_id    text        NOT NULL,
    invited_by text        NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, invited_by)
);

-- Tells a repeated creation from another one that wants the same id.
ALTER TABLE conversations ADD COLUMN request_hash bytea NOT NULL DEFAULT '';
