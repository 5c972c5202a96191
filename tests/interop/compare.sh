#!/bin/sh
# Measures Moorline's relay beside the relay of the release that the clients are built from, with the same load
# programs in one run; then the client library through the server, by relay and directly.
#
#   MOORLINE_BIN=…/target/release/moorline sh tests/interop/compare.sh [SECONDS]
#
# Prints one JSON object a line. Both servers share this machine's cores with the load, so ratios count.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-5}
: "${MOORLINE_BIN:?names the server to measure}"
cache=${MOORLINE_INTEROP_CACHE:-$here/../../target/interop}
sh "$here/build.sh" agents load >&2

work=$(mktemp -d)
trap 'kill $pids 2>/dev/null || true; rm -rf "$work"' EXIT
pids=

# field NAME: the value behind NAME= in the line on standard input.
field() { tr ' ' '\n' | sed -n "s/^$1=//p" | head -n 1; }
# ready FILE: waits for a line that begins with `ready`, and prints it.
ready() {
	for _ in $(seq 300); do
		grep '^ready ' "$1" 2>/dev/null && return
		sleep 0.1
	done
	echo "compare.sh: a server did not get ready" >&2
	return 1
}

"$cache/stockrelay" >"$work/stock.out" 2>"$work/stock.err" &
stock_pid=$!
pids="$pids $stock_pid"
stock_url=$(ready "$work/stock.out" | field url)

(cd "$work" && exec "$MOORLINE_BIN" serve --file m.db --listen 127.0.0.1:0) >"$work/moorline.out" 2>"$work/moorline.err" &
moorline_pid=$!
pids="$pids $moorline_pid"
moorline_url=$(ready "$work/moorline.out" | field url)
token=$(sed -n 's/^  token *//p' "$work/moorline.out" | head -n 1)
"$MOORLINE_BIN" workspace add bench --owner admin --file "$work/m.db" --json >"$work/workspace.json"
agent_token=$(sed 's/.*"token":"\([^"]*\)".*/\1/' "$work/workspace.json")
agent=$(sed 's/.*"agents":\[{"id":"\([^"]*\)".*/\1/' "$work/workspace.json")

mkdir -p "$work/home"
env -i PATH="$PATH" HOME="$work/home" TMPDIR="$work" SHELL=/bin/sh CODER_AGENT_URL="$moorline_url" CODER_AGENT_TOKEN="$agent_token" \
	CODER_AGENT_LOG_DIR="$work" CODER_AGENT_SCRIPT_DATA_DIR="$work" CODER_AGENT_PPROF_ADDRESS=127.0.0.1:0 \
	CODER_AGENT_PROMETHEUS_ADDRESS=127.0.0.1:0 CODER_AGENT_DEBUG_ADDRESS=127.0.0.1:0 \
	"$cache/coder-v2.24.0" agent --no-reap >"$work/agent.out" 2>&1 &
pids="$pids $!"

# load SERVER ARGUMENT…: one measurement of one server.
load() {
	server=$1
	shift
	case $server in
	stock) set -- --url "$stock_url" --pid "$stock_pid" "$@" ;;
	moorline) set -- --url "$moorline_url" --pid "$moorline_pid" --token "$token" --agent "$agent" "$@" ;;
	esac
	printf '{"server":"%s","result":' "$server"
	"$cache/derpload" "$@" | tr -d '\n'
	echo '}'
}

for websocket in false true; do
	for size in 1200 128; do
		for pairs in 1 8; do
			for server in stock moorline; do
				load $server --websocket=$websocket --size $size --pairs $pairs --duration "${seconds}s"
			done
		done
	done
done
for idle in 0 1000; do
	for server in stock moorline; do
		load $server --mode roundtrip --size 128 --idle $idle --duration "${seconds}s"
	done
done
for relay in true false; do
	"$cache/reachload" --url "$moorline_url" --token "$token" --agent "$agent" --relay=$relay
done
