package harness

import (
	"path/filepath"
)

// SSHConfig is the file that `coder config-ssh` writes for this person.
func (p *Person) SSHConfig() string {
	return filepath.Join(p.Home, "ssh_config")
}

// ConfigSSH lets `coder config-ssh` write the file, with further arguments.
func (p *Person) ConfigSSH(args ...string) {
	p.t.Helper()
	p.Must(append([]string{"config-ssh", "-y", "--ssh-config-file", p.SSHConfig()}, args...)...)
}

// openSSH are the options that all OpenSSH programs get: only the file that
// `coder config-ssh` wrote, and never a question.
func (p *Person) openSSH(args []string) []string {
	return append([]string{"-F", p.SSHConfig(), "-o", "BatchMode=yes"}, args...)
}

// SSH runs OpenSSH's ssh to its end.
func (p *Person) SSH(args ...string) Output {
	p.t.Helper()
	return p.Run(RunOptions{}, "ssh", p.openSSH(args)...)
}

// OpenSSH runs a program of OpenSSH (`ssh`, `scp`, `sftp`) to its end.
func (p *Person) OpenSSH(opts RunOptions, program string, args ...string) Output {
	p.t.Helper()
	return p.Run(opts, program, p.openSSH(args)...)
}

// StartOpenSSH starts a program of OpenSSH with pipes.
func (p *Person) StartOpenSSH(program string, args ...string) *Session {
	p.t.Helper()
	return p.StartProgram(program, p.openSSH(args)...)
}

// TerminalSSH starts OpenSSH's ssh on a terminal.
func (p *Person) TerminalSSH(args ...string) *Session {
	p.t.Helper()
	return p.TerminalProgram("ssh", p.openSSH(args)...)
}
