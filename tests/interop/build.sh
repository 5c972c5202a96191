#!/bin/sh
# Builds what the interop tests run, into one folder, and only what has changed:
#
#   coder-v2.24.0, coder-v2.10.0   the unmodified agent and command line (the slim coder command)
#   interop.test                   the tests of this folder
#   simagents, restload, derpload, reachload, ptyload   load clients
#   stockrelay                     the relay of release 2.24.0
#   gitea, oidc                    the providers of external sign-in; gitea.d is what gitea reads
#
#   build.sh [agents] [tests] [load] [providers]      all of them without arguments
#
# The folder is $MOORLINE_INTEROP_CACHE, or target/interop of the project.
set -eu
cd "$(dirname "$0")"
cache=${MOORLINE_INTEROP_CACHE:-../../target/interop}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# One set of flags for all builds, so that they share compiled packages.
GOFLAGS="${GOFLAGS:-} -trimpath -buildvcs=false"
export GOFLAGS

# changed NAME FILE…: has an input of NAME changed since it was last built?
# Leaves the new fingerprint in $print for `built`.
changed() {
	name=$1
	shift
	print=$({ go version; echo "$GOFLAGS"; cat build.sh "$@"; } | cksum)
	[ ! -x "$cache/$name" ] || [ "$(cat "$cache/$name.stamp" 2>/dev/null)" != "$print" ]
}

# built NAME: puts the finished file in place and remembers its inputs.
built() {
	mv -f "$cache/$1.new" "$cache/$1"
	echo "$print" >"$cache/$1.stamp"
	echo "built $1"
}

# agent VERSION FOLDER [FLAG…]: builds the coder command from FOLDER's module.
agent() {
	version=$1
	folder=$2
	shift 2
	(cd "$folder" && go build "$@" -tags slim \
		-ldflags "-s -w -X github.com/coder/coder/v2/buildinfo.tag=$version" \
		-o "$cache/coder-v$version.new" github.com/coder/coder/v2/cmd/coder)
}

# Release 2.10 needs a gvisor whose `sync` package only compiles with Go 1.21 and
# older. It gets that one package from the gvisor of release 2.24, which differs
# in nothing else that matters here; the agent's own source is not touched.
old_gvisor() {
	(cd agent-v2.10 && go mod download gvisor.dev/gvisor)
	go mod download gvisor.dev/gvisor
	old=$(cd agent-v2.10 && go list -m -f '{{.Replace.Dir}}' gvisor.dev/gvisor)
	new=$(go list -m -f '{{.Dir}}' gvisor.dev/gvisor)
	[ -d "$old" ] || exit 1
	[ -d "$new" ] || exit 1
	rm -rf "$cache/gvisor"
	mkdir "$cache/gvisor"
	cp -R "$old/." "$cache/gvisor"
	chmod -R u+w "$cache/gvisor"
	rm -rf "$cache/gvisor/pkg/sync"
	cp -R "$new/pkg/sync" "$cache/gvisor/pkg/sync"
	chmod -R u+w "$cache/gvisor/pkg/sync"
	cp agent-v2.10/gvisor_trace_names.go.txt "$cache/gvisor/pkg/sync/trace_names.go"
	cp agent-v2.10/go.mod "$cache/agent-v2.10.mod"
	cp agent-v2.10/go.sum "$cache/agent-v2.10.sum"
	go mod edit -replace "gvisor.dev/gvisor=$cache/gvisor" "$cache/agent-v2.10.mod"
}

agents() {
	if changed coder-v2.24.0 go.mod go.sum; then
		agent 2.24.0 .
		built coder-v2.24.0
	fi
	if changed coder-v2.10.0 go.mod agent-v2.10/go.mod agent-v2.10/go.sum agent-v2.10/gvisor_trace_names.go.txt; then
		old_gvisor
		agent 2.10.0 agent-v2.10 -modfile "$cache/agent-v2.10.mod"
		built coder-v2.10.0
	fi
}

tests() {
	if changed interop.test go.mod go.sum ./*.go internal/*/*.go; then
		go test -c -o "$cache/interop.test.new" .
		built interop.test
	fi
}

load() {
	for name in simagents restload stockrelay derpload reachload ptyload; do
		if changed "$name" go.mod go.sum "cmd/$name"/*.go internal/*/*.go; then
			go build -o "$cache/$name.new" "./cmd/$name"
			built "$name"
		fi
	done
}

# The module of Gitea is built in its own folder, with the checksums and replacements of its own
# go.mod. It comes without what its web pages load (scripts, styles), which no test needs.
gitea() {
	(cd providers/gitea && go mod download code.gitea.io/gitea)
	source=$(cd providers/gitea && go list -m -f '{{.Dir}}' code.gitea.io/gitea)
	[ -d "$source" ] || exit 1
	(cd "$source" && go build -tags 'sqlite sqlite_unlock_notify' -ldflags '-s -w -X main.Version=1.26.0' \
		-o "$cache/gitea.new" .)
	if [ -d "$cache/gitea.d" ]; then rm -r "$cache/gitea.d"; fi
	mkdir "$cache/gitea.d"
	cp -R "$source/options" "$source/templates" "$source/public" "$cache/gitea.d"
	chmod -R u+w "$cache/gitea.d"
	# The list of those files, without which every page is an error in its log.
	mkdir -p "$cache/gitea.d/public/assets/.vite"
	echo '{}' >"$cache/gitea.d/public/assets/.vite/manifest.json"
}

providers() {
	if changed gitea providers/gitea/go.mod providers/gitea/go.sum; then
		gitea
		built gitea
	fi
	if changed oidc providers/oidc/go.mod providers/oidc/go.sum providers/oidc/main.go; then
		(cd providers/oidc && go build -o "$cache/oidc.new" .)
		built oidc
	fi
}

[ $# -gt 0 ] || set -- agents tests load providers
for what; do
	case $what in
	agents | tests | load | providers) "$what" ;;
	*)
		echo "build.sh: unknown target $what" >&2
		exit 2
		;;
	esac
done
