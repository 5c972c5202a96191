package harness

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// Session is a command that a test talks to while it runs.
type Session struct {
	t     testing.TB
	cmd   *exec.Cmd
	input io.WriteCloser
	tty   *os.File // nil: pipes
	done  chan struct{}

	mu     sync.Mutex
	output bytes.Buffer
	newest time.Time
}

// startSession starts cmd with pipes, or on a terminal of its own.
func startSession(t testing.TB, cmd *exec.Cmd, terminal bool) *Session {
	t.Helper()
	s := &Session{t: t, cmd: cmd, done: make(chan struct{})}
	if terminal {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
		tty, err := pty.StartWithAttrs(cmd, &pty.Winsize{Rows: 24, Cols: 80}, cmd.SysProcAttr)
		if err != nil {
			t.Fatalf("start %v on a terminal: %v", cmd.Args, err)
		}
		s.tty, s.input = tty, tty
		go func() {
			_, _ = io.Copy(s, tty)
			_ = cmd.Wait()
			close(s.done)
		}()
	} else {
		ownGroup(cmd)
		cmd.Stdout, cmd.Stderr = s, s
		cmd.WaitDelay = 2 * time.Second
		input, err := cmd.StdinPipe()
		if err != nil {
			t.Fatalf("make a pipe: %v", err)
		}
		s.input = input
		if err := cmd.Start(); err != nil {
			t.Fatalf("start %v: %v", cmd.Args, err)
		}
		go func() {
			_ = cmd.Wait()
			close(s.done)
		}()
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("---- output of %v\n%s", cmd.Args, s.Output())
		}
	})
	return s
}

// Write takes what the command prints.
func (s *Session) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = time.Now()
	return s.output.Write(p)
}

// escapes are colours, cursor movements and titles.
var escapes = regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]*(\x07|\x1b\\))`)

// Output is what the command printed so far, without colours.
func (s *Session) Output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return escapes.ReplaceAllString(s.output.String(), "")
}

// Newest is when the command printed something for the last time.
func (s *Session) Newest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// Type sends text as its user would.
func (s *Session) Type(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.input, text); err != nil {
		s.t.Fatalf("type into %v: %v", s.cmd.Args, err)
	}
}

// CloseInput ends its standard input.
func (s *Session) CloseInput() {
	_ = s.input.Close()
}

// Resize changes the size of its terminal.
func (s *Session) Resize(rows, columns uint16) {
	s.t.Helper()
	if err := pty.Setsize(s.tty, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		s.t.Fatalf("resize: %v", err)
	}
}

// WaitFor waits until the output contains text.
func (s *Session) WaitFor(text string, within time.Duration) {
	s.t.Helper()
	Eventually(s.t, within, func() error {
		if strings.Contains(s.Output(), text) {
			return nil
		}
		if !s.Running() && !strings.Contains(s.Output(), text) {
			s.t.Fatalf("%v ended with %d before it printed %q:\n%s", s.cmd.Args, s.cmd.ProcessState.ExitCode(), text, s.Output())
		}
		return fmt.Errorf("%v has not printed %q", s.cmd.Args, text)
	})
}

// Echo types a command line whose result the terminal's own echo does not
// contain, waits for the result, and returns how long that took.
func (s *Session) Echo(mark string, within time.Duration) time.Duration {
	s.t.Helper()
	begun := time.Now()
	s.Type(fmt.Sprintf("echo %s-$((40+2))-\n", mark))
	s.WaitFor(mark+"-42-", within)
	return time.Since(begun)
}

// Running says whether the command has not ended yet.
func (s *Session) Running() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// Wait waits for the end and returns the exit code.
func (s *Session) Wait(within time.Duration) int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(within):
		s.t.Fatalf("%v did not end within %v", s.cmd.Args, within)
	}
	return s.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the command alone, not to its children.
func (s *Session) Signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("signal %v: %v", s.cmd.Args, err)
	}
}

// Pause stops the command and its children as a suspended laptop does; Resume
// lets them go on.
func (s *Session) Pause() { s.signalGroup(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Session) Resume() { s.signalGroup(syscall.SIGCONT) }

func (s *Session) signalGroup(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil {
		s.t.Fatalf("signal %v: %v", s.cmd.Args, err)
	}
}

// Kill ends the command and its children without a word.
func (s *Session) Kill() {
	if s.Running() {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		if s.tty != nil {
			_ = s.tty.Close()
		}
	}
	<-s.done
}
