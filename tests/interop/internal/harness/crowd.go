package harness

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Simulator stands for many agents and clients; build.sh makes it.
const Simulator = "simagents"

// StartCrowd starts the simulator with the tokens of these two files; a line
// "drop" breaks all connections and ends it once everybody is back.
func (s *Server) StartCrowd(tokens, clients string) *Session {
	s.t.Helper()
	bin, err := agentBin(Simulator)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(bin, "--url", s.Front.String(), "--tokens", tokens, "--clients", clients,
		"--mode", "drop", "--duration", "10m", "--json")
	return startSession(s.t, cmd, false)
}

// Memory is the server's resident memory in bytes.
func (s *Server) Memory() int64 {
	s.t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.child.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		s.t.Fatalf("memory: %v", err)
	}
	return kib << 10
}

// Threads is how many threads the server has.
func (s *Server) Threads() int {
	s.t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", s.child.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(all)
}
