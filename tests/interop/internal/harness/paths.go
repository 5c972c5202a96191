package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The environment variables that tell the tests what to run.
const (
	// EnvBin is the moorline binary under test. There is no default: a test run
	// that silently took an old binary would be worse than none.
	EnvBin = "MOORLINE_BIN"
	// EnvCache is the folder that build.sh fills.
	EnvCache = "MOORLINE_INTEROP_CACHE"
	// EnvPlugins is the folder of the shipped plugins; the server looks beside
	// itself without it.
	EnvPlugins = "MOORLINE_PLUGINS"
)

// The releases that build.sh makes, by the name of the binary in the cache.
const (
	AgentCurrent = "coder-v2.24.0"
	AgentOld     = "coder-v2.10.0"
)

// programs are run by the tests beside those of the cache.
var programs = []string{"git", "ssh", "scp", "sftp", "ssh-agent", "ssh-add", "ssh-keygen", "rsync", "xauth", "vi", "tmux", "screen", "sh",
	"ip", "unshare", "nsenter", "bindfs"}

// CheckSetup says what is missing before any test starts, so that a wrong
// environment is one clear line and not thirty failures.
func CheckSetup() error {
	bin, err := moorlineBin()
	if err != nil {
		return err
	}
	if info, err := os.Stat(bin); err != nil || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s=%s is not an executable file", EnvBin, bin)
	}
	for _, name := range []string{AgentCurrent, AgentOld, Simulator, giteaBin, oidcBin} {
		if _, err := agentBin(name); err != nil {
			return err
		}
	}
	if _, err := chromiumBin(); err != nil {
		return err
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed: %w", program, err)
		}
	}
	return nil
}

func moorlineBin() (string, error) {
	bin := os.Getenv(EnvBin)
	if bin == "" {
		return "", fmt.Errorf("%s is not set: it must name the moorline binary to test", EnvBin)
	}
	return filepath.Abs(bin)
}

// agentBin looks where build.sh put things: the folder named by EnvCache, the
// folder of the compiled test itself, or the default below the project's target
// folder (which is right when `go test` runs in the module).
func agentBin(name string) (string, error) {
	var tried []string
	if dir := os.Getenv(EnvCache); dir != "" {
		tried = append(tried, dir)
	} else {
		if self, err := os.Executable(); err == nil {
			tried = append(tried, filepath.Dir(self))
		}
		tried = append(tried, filepath.Join("..", "..", "target", "interop"))
	}
	for _, dir := range tried {
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("no %s in %v: run build.sh first, or set %s", name, tried, EnvCache)
}
