#!/bin/sh
# Runs a streaming replica: replica.sh OPTION …. At the first start it copies the primary, which PRIMARY names (libpq), into
# PGDATA; the password is in PGPASSWORD. A copy that was interrupted is begun again.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA" "$PGDATA.copying"
  mkdir -p "$(dirname "$PGDATA")"
  pg_basebackup -d "$PRIMARY" -D "$PGDATA.copying" -X stream -c fast
  touch "$PGDATA.copying/standby.signal"
  mv "$PGDATA.copying" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c "primary_conninfo=$PRIMARY" "$@"
