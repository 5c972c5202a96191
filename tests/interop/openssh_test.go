package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorline.test/interop/internal/harness"
)

func TestConfigSSHWritesWhatOpenSSHUnderstands(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)

	require.Contains(t, alice.Must("config-ssh", "-n", "--ssh-config-file", alice.SSHConfig()), "Host coder.*")
	require.NoFileExists(t, alice.SSHConfig())
	alice.ConfigSSH()
	written, err := os.ReadFile(alice.SSHConfig())
	require.NoError(t, err)
	require.Contains(t, string(written), "Host coder.*\n")
	require.Contains(t, string(written), "Host *.coder\n")
	alice.ConfigSSH()
	again, err := os.ReadFile(alice.SSHConfig())
	require.NoError(t, err)
	require.Equal(t, string(written), string(again))

	for _, host := range []string{"coder.dev", "dev.coder", "main.dev.alice.coder", "coder.alice--dev--main"} {
		out := alice.SSH(host, "echo at $CODER_WORKSPACE_NAME")
		require.Zero(t, out.Code, "%s: %s", host, out.Stderr)
		require.Equal(t, "at dev\n", out.Stdout, host)
	}
	out := alice.SSH("coder.nosuch", "true")
	require.Equal(t, 255, out.Code)
	require.Contains(t, out.Stderr, notYours)
}

func TestOpenSSHPassesStatusSignalsAndEnvironment(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	alice.ConfigSSH()

	require.Equal(t, 7, alice.SSH("coder.dev", "exit 7").Code)
	require.Equal(t, "both\n", alice.OpenSSH(harness.RunOptions{Stdin: "both\n"}, "ssh", "coder.dev", "cat").Stdout)
	require.Equal(t, "value\n", alice.SSH("-o", "SetEnv=RIG=value", "coder.dev", "echo $RIG").Stdout)
	out := alice.SSH("coder.dev", "echo wrong >&2; kill -TERM $$")
	require.NotZero(t, out.Code)
	require.Equal(t, "wrong\n", out.Stderr, "standard error stays apart")

	terminal := alice.TerminalSSH("-t", "coder.dev")
	terminal.Echo("up", harness.Patience)
	terminal.Type("exit 6\n")
	require.Equal(t, 6, terminal.Wait(quickEcho))
}

func TestOpenSSHForwardsAgentAndPorts(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	alice.ConfigSSH()
	fingerprint := startAuthAgent(t, site, alice)

	require.Contains(t, alice.SSH("-A", "coder.dev", "ssh-add -l").Stdout, fingerprint)
	require.NotContains(t, alice.SSH("coder.dev", "ssh-add -l").Stdout, fingerprint)

	local, remote, dynamic := harness.FreePort(t), harness.FreePort(t), echoServer(t)
	forward := alice.StartOpenSSH("ssh", "-L", local+":"+dynamic, "-R", remote+":"+dynamic, "coder.dev", "echo up; sleep 1000")
	forward.WaitFor("up", harness.Patience)
	requireEcho(t, "127.0.0.1:"+local)
	requireEcho(t, "127.0.0.1:"+remote)
}

func TestOpenSSHForwardsX11(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	alice.ConfigSSH()
	screen := startScreen(t, alice)

	session := alice.StartOpenSSH("ssh", "-Y", "coder.dev",
		`echo "display=$DISPLAY"; xauth list "$DISPLAY"; echo up; sleep 1000`)
	session.WaitFor("\nup", harness.Patience)
	display := field(t, session.Output(), "display=")
	cookie := field(t, session.Output(), "MIT-MAGIC-COOKIE-1  ")
	require.Equal(t, screenAnswer, askScreen(t, display, cookie))
	require.Equal(t, screen.cookie, <-screen.asked, "the far cookie was exchanged for the real one")
	require.NotEqual(t, screen.cookie, cookie, "which never left this machine")
}

func TestFilesTravelUnchanged(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent, alice := connected(t, site)
	alice.ConfigSSH()
	big, within := filepath.Join(alice.Home, "big"), harness.RunOptions{Within: 2 * time.Minute}
	sum := randomFile(t, big, 100<<20)

	out := alice.OpenSSH(within, "scp", big, "coder.dev:up")
	require.Zero(t, out.Code, out.Stderr)
	require.Equal(t, sum, checksum(t, filepath.Join(agent.Home, "up")))
	out = alice.OpenSSH(within, "scp", "coder.dev:up", filepath.Join(alice.Home, "down"))
	require.Zero(t, out.Code, out.Stderr)
	require.Equal(t, sum, checksum(t, filepath.Join(alice.Home, "down")))

	small := filepath.Join(alice.Home, "small")
	sum = randomFile(t, small, 1<<20)
	out = alice.OpenSSH(harness.RunOptions{Stdin: "put " + small + "\nmkdir d\nrename small d/moved\nget d/moved " + small + ".back\n"},
		"sftp", "-b", "-", "coder.dev:"+agent.Home)
	require.Zero(t, out.Code, out.Stderr)
	require.Equal(t, sum, checksum(t, filepath.Join(agent.Home, "d", "moved")))
	require.Equal(t, sum, checksum(t, small+".back"))

	tree := filepath.Join(alice.Home, "tree")
	require.NoError(t, os.MkdirAll(filepath.Join(tree, "sub"), 0o700))
	sum = randomFile(t, filepath.Join(tree, "sub", "file"), 5<<20)
	shell := strings.Join(append([]string{"ssh"}, "-F", alice.SSHConfig(), "-o", "BatchMode=yes"), " ")
	for _, expected := range []string{"sub/file", ""} {
		out = alice.Run(within, "rsync", "-a", "--out-format=%n", "-e", shell, tree+"/", "coder.dev:"+agent.Home+"/tree")
		require.Zero(t, out.Code, out.Stderr)
		if expected == "" {
			require.Empty(t, out.Stdout, "the second run has nothing to do")
		} else {
			require.Contains(t, out.Stdout, expected)
		}
	}
	require.Equal(t, sum, checksum(t, filepath.Join(agent.Home, "tree", "sub", "file")))
}

// field is what follows mark up to the end of its line.
func field(t *testing.T, text, mark string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, mark)
	require.True(t, found, "%q is not in %q", mark, text)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
