#!/bin/sh
# Get programs that tests can do without, by apt where that is possible: sh tests/tools.sh haproxy nginx chromium
# Never fails: without HAProxy a cluster's clients go to its first node, and tests that need a program are skipped.
PATH="$PATH:/usr/sbin:/usr/local/sbin"
for folder in /usr/lib/postgresql/*/bin; do PATH="$PATH:$folder"; done
missing=""
for program in "$@"; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "not installed; some tests are skipped:$missing" >&2
    exit 0
fi
# Debian starts servers that it installs, except in this runlevel; here they are only wanted as programs.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
package() { case "$1" in postgres) echo postgresql ;; *) echo "$1" ;; esac; }
get() { echo "installing $1"; apt-get install -y --no-install-recommends "$(package "$1")" >/dev/null 2>&1; }
updated=""
for program in $missing; do
    get "$program" && continue
    [ -n "$updated" ] || apt-get update >/dev/null 2>&1
    updated=1
    get "$program" || echo "$program could not be installed; some tests are skipped" >&2
done
exit 0
