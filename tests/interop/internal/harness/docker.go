package harness

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Docker is a folder with programs that answer an agent as those of Docker and of development containers do. Their
// containers are files, and what is run in one is run beside the agent.
type Docker struct {
	t   testing.TB
	dir string
}

// The commands that agents of release 2.24 use (agent/agentcontainers/containers_dockercli.go). The containers are of
// an architecture on which no agent is put into them.
const dockerProgram = `#!/bin/sh
dir=$(dirname "$0")
echo "$*" >>"$dir/calls"
verb=$1
shift
case $verb in
ps)
	if [ -e "$dir/broken" ]; then
		echo "Cannot connect to the Docker daemon" >&2
		exit 1
	fi
	for file in "$dir"/containers/*; do
		[ -e "$file" ] && basename "$file"
	done
	exit 0 ;;
inspect)
	if [ "$1" = --format ]; then
		case $2 in *Architecture*) echo other ;; *) echo image ;; esac
		exit 0
	fi
	printf '['
	comma=
	for id; do
		printf '%s' "$comma"
		cat "$dir/containers/$id" || exit 1
		comma=,
	done
	echo ']' ;;
exec)
	user=nobody-said
	while :; do
		case $1 in
		--interactive | --tty) shift ;;
		--user) user=$2; shift 2 ;;
		--workdir) cd "$2"; shift 2 ;;
		--env) export "$2"; shift 2 ;;
		*) break ;;
		esac
	done
	[ -e "$dir/containers/$1" ] || { echo "No such container: $1" >&2; exit 1; }
	export INSIDE="$1" INSIDE_AS="$user"
	shift
	case $1 in
	whoami) echo dweller ;;
	cat) printf 'dweller:x:1000:1000::/:/bin/sh\nguest:x:1001:1001::/tmp:/bin/sh\n' ;;
	*) exec "$@" ;;
	esac ;;
esac
`

// A container comes to be again when the file "go" is there.
const devcontainerProgram = `#!/bin/sh
dir=$(dirname "$0")
[ "$1" = up ] || exit 1
while ! [ -e "$dir/go" ]; do sleep 0.1; done
rm -f "$dir"/containers/*
cp "$dir/next" "$dir/containers/$(cat "$dir/next-id")"
echo "{\"outcome\":\"success\",\"containerId\":\"$(cat "$dir/next-id")\"}"
`

// NewDocker makes the programs.
func (s *Site) NewDocker() *Docker {
	s.t.Helper()
	d := &Docker{t: s.t, dir: s.Scratch("docker")}
	if err := os.MkdirAll(filepath.Join(d.dir, "containers"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	d.write("docker", dockerProgram)
	d.write("devcontainer", devcontainerProgram)
	return d
}

func (d *Docker) write(name, content string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(content), 0o700); err != nil {
		d.t.Fatal(err)
	}
}

// Env is what an agent needs to find them.
func (d *Docker) Env() []string {
	return []string{"PATH=" + d.dir + ":" + os.Getenv("PATH"), "CODER_AGENT_DEVCONTAINERS_ENABLE=true"}
}

// Container adds one that runs.
func (d *Docker) Container(id, name string, labels map[string]string) {
	d.t.Helper()
	d.write(filepath.Join("containers", id), d.inspected(id, name, labels))
}

// Next is the one that takes the place of all others.
func (d *Docker) Next(id, name string, labels map[string]string) {
	d.t.Helper()
	d.write("next", d.inspected(id, name, labels))
	d.write("next-id", id)
}

// Go lets it.
func (d *Docker) Go() { d.write("go", "") }

// Break makes the daemon one that does not answer.
func (d *Docker) Break() { d.write("broken", "") }

// Calls are the arguments of all calls so far, a line each.
func (d *Docker) Calls() []string {
	content, _ := os.ReadFile(filepath.Join(d.dir, "calls"))
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

func (d *Docker) inspected(id, name string, labels map[string]string) string {
	d.t.Helper()
	text, err := json.Marshal(map[string]any{
		"Id": id, "Name": "/" + name, "Created": "2026-01-02T03:04:05Z",
		"Config": map[string]any{"Image": "example/" + name, "Labels": labels},
		"State":  map[string]any{"Running": true},
		"Mounts": []any{map[string]any{"Source": "/srv/" + name, "Destination": "/data", "Type": "bind"}},
		"NetworkSettings": map[string]any{"Ports": map[string]any{
			"80/tcp": []any{map[string]any{"HostIp": "127.0.0.1", "HostPort": "8080"}},
		}},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}
