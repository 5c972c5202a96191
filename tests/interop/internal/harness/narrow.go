package harness

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// envInside is set for tests that run in a network of their own.
const envInside = "MOORLINE_INTEROP_INSIDE"

// The addresses of a Road.
const (
	roadServer  = "10.91.0.1"
	roadClient  = "10.91.0.2"
	roadMachine = "10.91.0.3"
	// narrowBytes is the largest packet that passes a narrow road: what many tunnels of providers have. The
	// largest of a direct connection has 1,338 with its headers.
	narrowBytes = "1280"
)

// Inside runs the test again with a network and mounts of its own, in which it is root, and says whether this is that run.
func Inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envInside) == t.Name() {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A container's root may often have networks only with users of their own, or only without.
	unshare := []string{"--user", "--map-root-user", "--net", "--mount"}
	if said, err := exec.Command("unshare", append(unshare, "true")...).CombinedOutput(); err != nil {
		unshare = []string{"--net", "--mount"}
		if more, err := exec.Command("unshare", append(unshare, "true")...).CombinedOutput(); err != nil {
			t.Skipf("not tried: the kernel lets nobody here have a network and mounts of their own (%s%s): %v", said, more, err)
		}
	}
	cmd := exec.Command("unshare", append(unshare, self, "-test.v", "-test.run", "^"+t.Name()+"$")...)
	cmd.Env = append(os.Environ(), envInside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("with a network and mounts of its own:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// Road is a network with a server, a client and a machine, each with addresses of its own.
type Road struct {
	// Network is for NewSiteOn.
	Network Network
	// Client and Machine are commands that run others there.
	Client, Machine []string

	t testing.TB
}

// NewRoad makes one, for a test that is Inside.
func NewRoad(t testing.TB) *Road {
	t.Helper()
	// A kernel may let one have networks and still lack what connects them.
	for _, probe := range [][]string{{"bridge"}, {"veth", "peer", "name", "probe-veth-end"}} {
		name := "probe-" + probe[0]
		add := exec.Command("ip", append([]string{"link", "add", name, "type"}, probe...)...)
		if said, err := add.CombinedOutput(); err != nil {
			t.Skipf("not tried: the kernel makes no %s for this test: %s%v", probe[0], said, err)
		}
		_ = exec.Command("ip", "link", "delete", name).Run()
	}
	r := &Road{t: t, Network: Network{Name: "road", Direct: true, listen: roadServer + ":0"}}
	r.ip("link", "set", "lo", "up")
	r.ip("link", "add", "middle", "type", "bridge")
	r.ip("addr", "add", roadServer+"/24", "dev", "middle")
	r.ip("link", "set", "middle", "up")
	r.Client = r.end("client", roadClient)
	r.Machine = r.end("machine", roadMachine)
	return r
}

// end makes a network at one end.
func (r *Road) end(name, address string) []string {
	r.t.Helper()
	holder := exec.Command("unshare", "--net", "sleep", "infinity")
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	pid := strconv.Itoa(holder.Process.Pid)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		r.t.Fatal(err)
	}
	Eventually(r.t, Patience, func() error {
		its, err := os.Readlink("/proc/" + pid + "/ns/net")
		if err == nil && its == own {
			err = fmt.Errorf("the %s has no network of its own yet", name)
		}
		return err
	})
	r.ip("link", "add", "to-"+name, "type", "veth", "peer", "name", "eth0", "netns", pid)
	r.ip("link", "set", "to-"+name, "master", "middle", "up")
	enter := []string{"nsenter", "--target", pid, "--net"}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", address + "/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		// Both ends know how large packets to and from the server may be, as TCP finds out in real life.
		{"route", "add", roadServer, "dev", "eth0", "mtu", narrowBytes},
		{"route", "add", "default", "via", roadServer},
	} {
		r.run(append(append([]string{}, enter...), append([]string{"ip"}, args...)...)...)
	}
	return enter
}

// Narrow loses packets between client and machine that have more than 1,280 bytes, without a word to anybody.
func (r *Road) Narrow() {
	r.t.Helper()
	r.ip("link", "set", "to-client", "mtu", narrowBytes)
}

func (r *Road) ip(args ...string) {
	r.t.Helper()
	r.run(append([]string{"ip"}, args...)...)
}

func (r *Road) run(line ...string) {
	r.t.Helper()
	if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %v\n%s", line, err, out)
	}
}
