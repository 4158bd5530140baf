-- depends: 0019.least-privilege
-- Epochs of the store, by which clients and gateways notice that it went back in time.

-- server: the start of the server that gave out seqs in this epoch. A copy that is started, and a replica that is promoted,
-- are other servers, so each begins an epoch with its first append. Null for an epoch that this store never had, and that
-- `millrace recover` has found in the log: its number is that of the last epoch before it that this store has.
CREATE TABLE store_epochs (
    id       text        PRIMARY KEY,
    number   int         NOT NULL,
    server   text        UNIQUE,
    began_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX store_epochs_by_number ON store_epochs (number);

-- Where an epoch begins in a conversation: what is behind seq may differ from what earlier epochs had there. A row is
-- written with the first entry of the epoch; without one nothing was appended.
CREATE TABLE epoch_starts (
    conversation_id uuid   NOT NULL REFERENCES conversations,
    epoch           int    NOT NULL,
    seq             bigint NOT NULL,
    PRIMARY KEY (conversation_id, epoch)
);
ALTER TABLE conversations ADD COLUMN epoch int NOT NULL DEFAULT 1;

-- Returns the number of the epoch of this server, which it begins if need be. It runs with the rights of its owner.
CREATE FUNCTION millrace_epoch() RETURNS int
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    AS $$
    DECLARE
        this text := format('%s/%s/%s', (SELECT system_identifier FROM pg_control_system()),
                            substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),
                            extract(epoch FROM pg_postmaster_start_time()));
        found int := (SELECT e.number FROM store_epochs e WHERE e.server = this);
        next int;
    BEGIN
        IF found IS NOT NULL THEN
            RETURN found;
        END IF;
        LOCK TABLE store_epochs IN EXCLUSIVE MODE;
        SELECT coalesce(max(e.number), 0) + 1 INTO next FROM store_epochs e;
        INSERT INTO store_epochs AS e (id, number, server)
        VALUES (next || '-' || left(gen_random_uuid()::text, 8), next, this)
        ON CONFLICT (server) DO NOTHING;
        RETURN (SELECT e.number FROM store_epochs e WHERE e.server = this);
    END
    $$;
-- Nobody else may create anything in the schema of the tables, whichever it is.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION millrace_epoch() SET search_path = pg_catalog, %I, pg_temp', current_schema());
END $$;
REVOKE ALL ON FUNCTION millrace_epoch() FROM PUBLIC;
DO $$ BEGIN PERFORM millrace_epoch(); END $$;
