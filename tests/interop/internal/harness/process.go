package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shownLog is how many lines of a log are printed when a test fails; the whole
// file stays in the test's folder, whose path is printed too.
const shownLog = 120

// process is a child whose output goes to a file that outlives it.
type process struct {
	cmd     *exec.Cmd
	logPath string
	done    chan struct{}
	err     error
}

// startProcess starts cmd, appending its stderr (and its stdout, unless the
// caller has taken that) to logPath.
func startProcess(t testing.TB, cmd *exec.Cmd, logPath string) *process {
	t.Helper()
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatalf("open log: %v", err)
	}
	defer log.Close()
	cmd.Stderr = log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	// A test binary that is killed must not leave servers and agents behind.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	p := &process{cmd: cmd, logPath: logPath, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p
}

// running says whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends sig and waits for the end; it returns how long that took.
func (p *process) signal(t testing.TB, sig syscall.Signal, within time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	if p.running() {
		_ = p.cmd.Process.Signal(sig)
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
		t.Errorf("%s did not end within %v after %v", p.cmd.Path, within, sig)
	}
	return time.Since(start)
}

// kill ends the process as the kernel would, without a word.
func (p *process) kill() {
	if p.running() {
		_ = p.cmd.Process.Kill()
	}
	<-p.done
}

// log is everything written so far.
func (p *process) log() string {
	content, err := os.ReadFile(p.logPath)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return string(content)
}

// showOnFailure prints the end of the log when the test has failed.
func (p *process) showOnFailure(t testing.TB, name string) {
	if !t.Failed() {
		return
	}
	lines := strings.Split(strings.TrimRight(p.log(), "\n"), "\n")
	if len(lines) > shownLog {
		lines = lines[len(lines)-shownLog:]
	}
	for i, line := range lines {
		if len(line) > 600 {
			lines[i] = line[:600] + "…"
		}
	}
	t.Logf("---- end of %s log (all of it: %s)\n%s", name, p.logPath, strings.Join(lines, "\n"))
}

// run executes a short command and returns what it printed and its exit code.
func run(t testing.TB, env []string, stdin string, within time.Duration, bin string, args ...string) Output {
	t.Helper()
	ctx := Context(t, within)
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = env
	if stdin != "" {
		// Without one the command gets an end of input at once.
		cmd.Stdin = strings.NewReader(stdin)
	}
	ownGroup(cmd)
	// A grandchild that keeps the pipes open must not keep the test.
	cmd.WaitDelay = 2 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %v did not end within %v\n%s%s", bin, args, within, stdout.String(), stderr.String())
	}
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s %v: %v", bin, args, err)
	}
	return Output{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// ownGroup makes cmd the head of a process group, so that its children (the
// ProxyCommand of OpenSSH, …) end with it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if cmd.Cancel != nil {
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	}
}

// Output is what a short command left behind.
type Output struct {
	Stdout string
	Stderr string
	Code   int
}
