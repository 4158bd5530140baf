#!/bin/sh
# Get HAProxy by apt where that is possible. Never fails: without it, clients go to the first node.
PATH="$PATH:/usr/sbin:/usr/local/sbin"
command -v haproxy >/dev/null && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "HAProxy is not installed; the cluster runs without it" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get install -y --no-install-recommends haproxy || { apt-get update && apt-get install -y --no-install-recommends haproxy; }; } \
    >/dev/null 2>&1 || echo "HAProxy could not be installed; the cluster runs without it" >&2
exit 0
