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

. "$here/site.sh"

"$cache/stockrelay" >"$work/stock.out" 2>"$work/stock.err" &
stock_pid=$!
pids="$pids $stock_pid"
stock_url=$(ready "$work/stock.out" | field url)

start_site

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
