# Sourced by the measuring scripts: a server with one workspace, and its agent. Needs MOORLINE_BIN, $cache, $here.

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
	echo "a server did not get ready" >&2
	return 1
}

# start_server: the server, on the port that it had before if there was one; sets moorline_pid and moorline_url.
start_server() {
	listen=${moorline_url:-http://127.0.0.1:0}
	: >"$work/moorline.out"
	(cd "$work" && exec "$MOORLINE_BIN" serve --file m.db --listen "${listen#http://}") >"$work/moorline.out" 2>>"$work/moorline.err" &
	moorline_pid=$!
	pids="$pids $moorline_pid"
	moorline_url=$(ready "$work/moorline.out" | field url)
}

# start_site: the server, its workspace and the agent; sets token and agent.
start_site() {
	start_server
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
}
