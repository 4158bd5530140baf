#!/bin/sh
# Runs a process of Millrace in a container: hold.sh COMMAND …. One whose settings are wrong ends with 78 (EX_CONFIG), and
# is wrong again however often it is started. So this holds the container, which is unhealthy and whose log says why, until
# somebody stops it or makes it anew. Every other exit code is that of the container.

process='' stopped=''
trap 'stopped=1; [ -z "$process" ] || kill -TERM "$process" 2>/dev/null' TERM INT
"$@" &
process=$!
[ -z "$stopped" ] || kill -TERM "$process" 2>/dev/null
wait "$process"
code=$?
while kill -0 "$process" 2>/dev/null; do # a signal has interrupted the wait, and was passed on
  wait "$process"
  code=$?
done
if [ "$code" -eq 78 ] && [ -z "$stopped" ]; then
  sleep=''
  trap 'kill "$sleep" 2>/dev/null; exit 78' TERM INT
  echo '{"event":"container_held","level":"error","reason":"settings are wrong; put them right and start it again"}'
  while :; do
    sleep 3600 &
    sleep=$!
    wait "$sleep"
  done
fi
exit "$code"
