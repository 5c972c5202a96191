package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What agents write into their log; the last three are not in release 2.10.
const (
	LogDialing   = "connecting to coderd"
	LogManifest  = "fetched manifest"
	LogRunError  = "run exited with error"
	LogConnError = "connection manager errored"
	LogReinitErr = "failed to wait for agent reinitialization"
	LogCoordSlow = "timed out waiting for Coordinator RPC disconnect"
)

// AgentOptions choose and shape one agent process.
type AgentOptions struct {
	// Release is AgentCurrent unless set.
	Release string
	// Token is the site's token unless set.
	Token string
	// Env is added to the environment, `NAME=value`.
	Env []string
	// UID is another user to run it as, which only root can; 0: whoever runs the tests.
	UID uint32
	// Under is a command that runs it, `nsenter …`.
	Under []string
}

// Agent is one running agent process.
type Agent struct {
	// Home is the agent's home directory.
	Home string

	t     testing.TB
	child *process
}

// StartAgent starts the real agent with directories of its own.
func (s *Site) StartAgent(opts AgentOptions) *Agent {
	s.t.Helper()
	if opts.Release == "" {
		opts.Release = AgentCurrent
	}
	if opts.Token == "" {
		opts.Token = s.Token
	}
	bin, err := agentBin(opts.Release)
	if err != nil {
		s.t.Fatal(err)
	}
	dir, err := os.MkdirTemp(s.Dir, "agent")
	if err != nil {
		s.t.Fatal(err)
	}
	// --no-reap: the tests may run as process 1 of a container, where the agent
	// would fork a parent that hides its exit status.
	line := append(slices.Clone(opts.Under), bin, "agent", "--no-reap")
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = dir
	cmd.Env = append(s.toolEnv(dir, opts.Token),
		"CODER_AGENT_LOG_DIR="+dir,
		"CODER_AGENT_SCRIPT_DATA_DIR="+dir,
		// The defaults are fixed ports, which two agents on one host cannot share.
		"CODER_AGENT_PPROF_ADDRESS=127.0.0.1:0",
		"CODER_AGENT_PROMETHEUS_ADDRESS=127.0.0.1:0",
		"CODER_AGENT_DEBUG_ADDRESS=127.0.0.1:0",
	)
	cmd.Env = append(cmd.Env, opts.Env...)
	if opts.UID != 0 {
		s.giveTo(dir, opts.UID)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: opts.UID, Gid: opts.UID}}
	}
	// After the agent itself: cleanups run in reverse.
	s.t.Cleanup(func() { endScreens(dir) })
	a := &Agent{
		Home:  filepath.Join(dir, "home"),
		t:     s.t,
		child: startProcess(s.t, cmd, filepath.Join(dir, "stderr.log")),
	}
	s.t.Cleanup(func() {
		a.child.kill()
		a.child.showOnFailure(s.t, opts.Release)
	})
	return a
}

// giveTo makes a folder below the site's somebody else's.
func (s *Site) giveTo(dir string, uid uint32) {
	s.t.Helper()
	err := os.Chmod(s.Dir, 0o711)
	for _, path := range []string{dir, filepath.Join(dir, "home"), filepath.Join(dir, "tmp")} {
		if err == nil {
			err = os.Chown(path, int(uid), int(uid))
		}
	}
	if err != nil {
		s.t.Fatalf("give %s to user %d: %v", dir, uid, err)
	}
}

// RunTool runs the current release's binary once, in an environment like that of
// a session on the machine (`coder gitssh`, `coder external-auth`, …).
func (s *Site) RunTool(extraEnv []string, args ...string) Output {
	s.t.Helper()
	bin, err := agentBin(AgentCurrent)
	if err != nil {
		s.t.Fatal(err)
	}
	dir, err := os.MkdirTemp(s.Dir, "tool")
	if err != nil {
		s.t.Fatal(err)
	}
	return run(s.t, append(s.toolEnv(dir, s.Token), extraEnv...), "", Patience, bin, args...)
}

// RunGit runs git once in such an environment, for the agent of any token, with
// the helper that the agent sets.
func (s *Site) RunGit(token string, args ...string) Output {
	s.t.Helper()
	bin, err := agentBin(AgentCurrent)
	if err != nil {
		s.t.Fatal(err)
	}
	dir, err := os.MkdirTemp(s.Dir, "git")
	if err != nil {
		s.t.Fatal(err)
	}
	env := append(s.toolEnv(dir, token), "GIT_ASKPASS="+bin, "GIT_TERMINAL_PROMPT=0")
	return run(s.t, env, "", Patience, "git", args...)
}

// toolEnv is the environment of programs on the machine. The URL ends in a slash
// because that is how upstream's own enrolment writes it.
func (s *Site) toolEnv(dir, token string) []string {
	for _, sub := range []string{"home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
	return append(s.trusting(), []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + filepath.Join(dir, "home"),
		"TMPDIR=" + filepath.Join(dir, "tmp"),
		"USER=" + os.Getenv("USER"),
		"SHELL=/bin/sh",
		"LANG=C.UTF-8",
		"CODER_AGENT_URL=" + s.Front.JoinPath("/").String(),
		"CODER_AGENT_TOKEN=" + token,
	}...)
}

// endScreens ends the GNU screens of an agent's shells, which outlive it on purpose.
func endScreens(dir string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(line), "SCREEN\x00") || !strings.Contains(string(line), dir+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Stop ends the agent with SIGTERM, as a service manager would, and returns how
// long that took.
func (a *Agent) Stop() time.Duration {
	a.t.Helper()
	return a.child.signal(a.t, syscall.SIGTERM, Patience)
}

// Signal sends the agent a signal that does not end it.
func (a *Agent) Signal(sig syscall.Signal) {
	a.t.Helper()
	if err := a.child.cmd.Process.Signal(sig); err != nil {
		a.t.Fatalf("signal the agent: %v", err)
	}
}

// Kill ends the agent without a word.
func (a *Agent) Kill() {
	a.child.kill()
}

// Log is what the agent wrote so far.
func (a *Agent) Log() string {
	return a.child.log()
}

// Count says how often mark is in the log.
func (a *Agent) Count(mark string) int {
	return strings.Count(a.Log(), mark)
}

// Alive returns an error when the process has ended: an agent that crashed on an
// answer of ours would otherwise only be seen as "disconnected".
func (a *Agent) Alive() error {
	if a.child.running() {
		return nil
	}
	return fmt.Errorf("the agent process ended: %v", a.child.err)
}

// WaitCount waits until mark is in the log at least n times.
func (a *Agent) WaitCount(mark string, n int, within time.Duration) {
	a.t.Helper()
	Eventually(a.t, within, func() error {
		if err := a.Alive(); err != nil {
			return err
		}
		if got := a.Count(mark); got < n {
			return fmt.Errorf("%q is %d times in the agent's log, not %d", mark, got, n)
		}
		return nil
	})
}
