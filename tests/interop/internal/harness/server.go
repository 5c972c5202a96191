package harness

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startWithin bounds the time from exec to the ready line.
const startWithin = 30 * time.Second

// Server is one running moorline with its own file.
type Server struct {
	// URL is where it listens; it stays the same over restarts.
	URL *url.URL
	// Front is where people and agents go: URL, or a middlebox before it.
	Front *url.URL
	// Dir holds everything of this test. It is short on purpose: the server's
	// administration socket lives below it and a Unix socket path has at most
	// 107 bytes.
	Dir string
	// Env is added to the server's environment at its next start.
	Env []string

	bin    string
	file   string
	config string // empty: none
	args   []string
	trust  *Authority
	t      testing.TB
	child  *process
}

// StartServer starts a server on a free port and a new file; args follow `serve`.
func StartServer(t testing.TB, args ...string) *Server {
	t.Helper()
	return startServerAt(t, "127.0.0.1:0", args...)
}

func startServerAt(t testing.TB, listen string, args ...string) *Server {
	t.Helper()
	bin, err := moorlineBin()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "moor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kept: %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	for _, sub := range []string{"home", "scratch"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{Dir: dir, bin: bin, file: filepath.Join(dir, "m.db"), args: args, t: t}
	s.start(listen)
	s.Front = s.URL
	t.Cleanup(func() {
		s.child.kill()
		s.child.showOnFailure(t, "server")
	})
	return s
}

// start runs `serve` and waits for its ready line.
func (s *Server) start(listen string) {
	s.t.Helper()
	args := append([]string{"serve", "--file", s.file, "--listen", listen}, s.args...)
	cmd := exec.Command(s.bin, args...)
	cmd.Dir = s.Dir
	cmd.Env = append(s.env(), s.Env...)
	stdout, writer := io.Pipe()
	cmd.Stdout = writer
	s.child = startProcess(s.t, cmd, filepath.Join(s.Dir, "server.log"))
	go func() {
		<-s.child.done
		_ = writer.Close()
	}()

	ready := make(chan string, 1)
	go func() {
		// Keep reading after the ready line: a full pipe would stop the server.
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if addr, ok := readyURL(lines.Text()); ok {
				select {
				case ready <- addr:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, stdout)
	}()

	timer := time.NewTimer(startWithin)
	defer timer.Stop()
	select {
	case addr := <-ready:
		parsed, err := url.Parse(addr)
		if err != nil {
			s.t.Fatalf("ready line has a bad url %q: %v", addr, err)
		}
		s.URL = parsed
	case <-s.child.done:
		s.t.Fatalf("server ended before it was ready: %v\n%s", s.child.err, s.child.log())
	case <-timer.C:
		s.child.kill()
		s.t.Fatalf("no ready line within %v\n%s", startWithin, s.child.log())
	}
}

// readyURL takes the address out of `ready url=… file=…`.
func readyURL(line string) (string, bool) {
	rest, ok := strings.CutPrefix(line, "ready ")
	if !ok {
		return "", false
	}
	for _, field := range strings.Fields(rest) {
		if addr, ok := strings.CutPrefix(field, "url="); ok {
			return addr, true
		}
	}
	return "", false
}

// env keeps the server and its verbs away from the real user's files.
func (s *Server) env() []string {
	home := filepath.Join(s.Dir, "home")
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"XDG_CONFIG_HOME=" + home,
		"XDG_DATA_HOME=" + home,
		"XDG_STATE_HOME=" + home,
		"XDG_RUNTIME_DIR=" + home,
		"TMPDIR=" + s.Dir,
		"RUST_BACKTRACE=1",
	}
}

// Kill ends the server with SIGKILL, as a power cut would.
func (s *Server) Kill() {
	s.child.kill()
}

// Terminate ends the server with SIGTERM and returns how long that took.
func (s *Server) Terminate() time.Duration {
	s.t.Helper()
	return s.child.signal(s.t, syscall.SIGTERM, Patience)
}

// StartAgain starts the server on the same file and the same port.
func (s *Server) StartAgain() {
	s.t.Helper()
	if s.child.running() {
		s.t.Fatal("the server is still running")
	}
	before := s.URL.Host
	s.start(before)
	if s.URL.Host != before {
		s.t.Fatalf("server came back at %s instead of %s", s.URL.Host, before)
	}
}

// Signal sends the server a signal that does not end it.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.child.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("signal the server: %v", err)
	}
}

// Log is what the server wrote to stderr.
func (s *Server) Log() string {
	return s.child.log()
}

// Scratch names a file for the side effects of scripts.
func (s *Server) Scratch(name string) string {
	return filepath.Join(s.Dir, "scratch", name)
}

// verb runs one administrator's verb against this server.
func (s *Server) verb(stdin string, args ...string) string {
	s.t.Helper()
	args = append(args, "--file", s.file)
	out := run(s.t, s.env(), stdin, Patience, s.bin, args...)
	if out.Code != 0 {
		s.t.Fatalf("moorline %s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// Path is the absolute address of an API path of this server.
func (s *Server) Path(format string, args ...any) string {
	return s.URL.Scheme + "://" + s.URL.Host + fmt.Sprintf(format, args...)
}

// Refuses starts the server on another file, which it has to refuse, and returns what it says.
func (s *Server) Refuses(file string, args ...string) string {
	s.t.Helper()
	out := run(s.t, s.env(), "", Patience, s.bin, append([]string{"serve", "--file", file, "--listen", "127.0.0.1:0"}, args...)...)
	if out.Code == 0 {
		s.t.Fatalf("the server did not refuse %s: %s", file, out.Stdout)
	}
	return out.Stderr
}

// MoveTo has the server use a copy of its file in another folder from now on.
func (s *Server) MoveTo(dir string, args ...string) {
	s.t.Helper()
	s.Terminate()
	all, err := filepath.Glob(s.file + "*")
	if err != nil {
		s.t.Fatal(err)
	}
	moved := filepath.Join(dir, filepath.Base(s.file))
	for _, from := range all {
		if info, err := os.Stat(from); err != nil || !info.Mode().IsRegular() {
			continue
		}
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(moved+strings.TrimPrefix(from, s.file), content, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	s.file, s.args = moved, append(s.args, args...)
	s.StartAgain()
}
