#!/bin/sh
# Measures terminals through the server: the first byte of a new one (cold: right after a start of the server), echo, bulk
# output, coming back, and terminals that do nothing.
#
#   MOORLINE_BIN=…/target/release/moorline sh tests/interop/terminals.sh [STARTS]
#
# Prints one JSON object a line: one for each cold start, then one of everything.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
starts=${1:-5}
: "${MOORLINE_BIN:?names the server to measure}"
cache=${MOORLINE_INTEROP_CACHE:-$here/../../target/interop}
sh "$here/build.sh" agents load >&2
. "$here/site.sh"
start_site

# load ARGUMENT…: one run, as soon as the agent is there.
load() {
	for _ in $(seq 100); do
		"$cache/ptyload" --url "$moorline_url" --token "$token" --agent "$agent" --pid "$moorline_pid" "$@" 2>"$work/load.err" && return
		sleep 0.1
	done
	cat "$work/load.err" >&2
	return 1
}

for _ in $(seq "$starts"); do
	kill "$moorline_pid"
	wait "$moorline_pid" || true
	start_server
	# The agent is back once it can be asked; it then rests, as it would have.
	sleep 12
	load --cold
done
load
