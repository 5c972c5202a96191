package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Person is somebody who uses the unmodified coder command on a machine of their
// own: a home folder, a configuration folder, a session token.
type Person struct {
	// Name is the user's.
	Name string
	// Token is a session token that is not signed in with by itself.
	Token string
	// Home is the home folder.
	Home string
	// Config is the folder of `--global-config`.
	Config string
	// Bin is the coder command.
	Bin string
	// Env is added to the environment of each command, `NAME=value`.
	Env []string
	// Under is a command that runs all others, `nsenter …`.
	Under []string

	server *Server
	t      testing.TB
}

// Person makes the folders and a session token of a user who exists.
func (s *Server) Person(name string) *Person {
	s.t.Helper()
	bin, err := agentBin(AgentCurrent)
	if err != nil {
		s.t.Fatal(err)
	}
	dir, err := os.MkdirTemp(s.Dir, name)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &Person{
		Name:   name,
		Token:  s.CreateToken(name),
		Home:   filepath.Join(dir, "home"),
		Config: filepath.Join(dir, "config"),
		Bin:    bin,
		server: s,
		t:      s.t,
	}
	for _, sub := range []string{p.Home, p.Config, filepath.Join(dir, "tmp")} {
		if err := os.Mkdir(sub, 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
	return p
}

// SignedIn makes a person and signs them in.
func (s *Server) SignedIn(name string) *Person {
	s.t.Helper()
	p := s.Person(name)
	p.SignIn()
	return p
}

// SignIn stores the person's token, as `coder login` does.
func (p *Person) SignIn() {
	p.t.Helper()
	p.Must("login", p.server.Front.String(), "--token", p.Token, "--use-token-as-session")
}

func (p *Person) env() []string {
	return append(append(p.server.trusting(), []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + p.Home,
		"TMPDIR=" + filepath.Join(filepath.Dir(p.Home), "tmp"),
		"USER=" + os.Getenv("USER"),
		"SHELL=/bin/sh",
		"LANG=C.UTF-8",
		// A terminal that programs do not ask for its colours, and wait.
		"TERM=screen",
	}...), p.Env...)
}

// cli is the command line of the coder command.
func (p *Person) cli(args []string) []string {
	return append([]string{"--global-config", p.Config}, args...)
}

// Coder runs the coder command to its end.
func (p *Person) Coder(args ...string) Output {
	p.t.Helper()
	return p.CoderWith(RunOptions{}, args...)
}

// RunOptions shape one command.
type RunOptions struct {
	// Stdin is its whole input.
	Stdin string
	// Env is added to the person's.
	Env []string
	// Within is its time; Patience unless set.
	Within time.Duration
}

// CoderWith runs the coder command to its end.
func (p *Person) CoderWith(opts RunOptions, args ...string) Output {
	p.t.Helper()
	return p.Run(opts, p.Bin, p.cli(args)...)
}

// Run runs any program to its end.
func (p *Person) Run(opts RunOptions, program string, args ...string) Output {
	p.t.Helper()
	if opts.Within == 0 {
		opts.Within = Patience
	}
	line := p.line(program, args)
	return run(p.t, append(p.env(), opts.Env...), opts.Stdin, opts.Within, line[0], line[1:]...)
}

// Must runs the coder command, which has to succeed, and returns its output.
func (p *Person) Must(args ...string) string {
	p.t.Helper()
	out := p.Coder(args...)
	if out.Code != 0 {
		p.t.Fatalf("coder %s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// Refused runs the coder command, which has to fail with exit code 1, and
// returns what it said.
func (p *Person) Refused(args ...string) string {
	p.t.Helper()
	out := p.Coder(args...)
	if out.Code != 1 {
		p.t.Fatalf("coder %s: exit code %d, not 1\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stderr
}

// Start starts the coder command with pipes.
func (p *Person) Start(args ...string) *Session {
	p.t.Helper()
	return p.session(false, p.Bin, p.cli(args)...)
}

// Terminal starts the coder command on a terminal.
func (p *Person) Terminal(args ...string) *Session {
	p.t.Helper()
	return p.session(true, p.Bin, p.cli(args)...)
}

// StartProgram starts any program with pipes.
func (p *Person) StartProgram(program string, args ...string) *Session {
	p.t.Helper()
	return p.session(false, program, args...)
}

// TerminalProgram starts any program on a terminal.
func (p *Person) TerminalProgram(program string, args ...string) *Session {
	p.t.Helper()
	return p.session(true, program, args...)
}

func (p *Person) session(terminal bool, program string, args ...string) *Session {
	p.t.Helper()
	line := p.line(program, args)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = p.Home
	cmd.Env = p.env()
	return startSession(p.t, cmd, terminal)
}

func (p *Person) line(program string, args []string) []string {
	return append(append(slices.Clone(p.Under), program), args...)
}
