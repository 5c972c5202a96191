package interop

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/harness"
)

// quickEcho is how long a typed line may take to come back over a path that is up.
const quickEcho = 5 * time.Second

// connected starts the agent and signs its owner in.
func connected(t *testing.T, site *harness.Site) (*harness.Agent, *harness.Person) {
	t.Helper()
	agent := site.StartAgent(harness.AgentOptions{})
	alice := site.SignedIn(harness.Owner)
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	return agent, alice
}

func TestSSHRunsCommands(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent, alice := connected(t, site)

	out := alice.Coder("ssh", "dev", "--", "echo", "hi")
	require.Zero(t, out.Code, out.Stderr)
	require.Equal(t, "hi", strings.TrimSpace(out.Stdout))
	require.Empty(t, out.Stderr)

	// The remote status becomes 1 here; only a terminal and OpenSSH pass it on.
	out = alice.Coder("ssh", "dev", "--", "sh", "-c", "'exit 7'")
	require.Equal(t, 1, out.Code)
	require.Contains(t, out.Stderr, "Process exited with status 7")

	require.Equal(t, agent.Home, strings.TrimSpace(alice.Must("ssh", "dev", "--", "echo $HOME")))
	require.Contains(t, alice.Must("ssh", "-e", "RIG=one two", "dev", "--", "echo $RIG"), "one two")
	require.Contains(t, alice.Must("ssh", "dev", "--wait", "no", "--", "echo $CODER_WORKSPACE_NAME"), "dev")
	require.Contains(t, alice.Refused("ssh", "nosuch", "--", "true"), notYours)
	require.Contains(t, alice.Refused("ssh", "dev.nosuch", "--", "true"), "main", "it names the agents that there are")

	logs := filepath.Join(alice.Home, "logs")
	require.NoError(t, os.Mkdir(logs, 0o700))
	alice.Must("ssh", "dev", "-l", logs, "--usage-app", "vscode", "--", "true")
	files, err := filepath.Glob(filepath.Join(logs, "coder-ssh-*.log"))
	require.NoError(t, err)
	require.Len(t, files, 1)
}

func TestSSHTakesAllFormsOfAName(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	for _, args := range [][]string{
		{"dev"},
		{"dev.main"},
		{"alice/dev"},
		{"alice/dev.main"},
		{"alice/dev--main"},
		{"alice--dev"},
		{"alice--dev--main"},
		{"alice--dev.main"},
		{"main.dev.alice"},
		{"--hostname-suffix", "coder", "dev.coder"},
		{"--hostname-suffix", "coder", "main.dev.alice.coder"},
		{"--ssh-host-prefix", "coder.", "coder.alice--dev--main"},
	} {
		out := alice.Coder(append(append([]string{"ssh"}, args...), "--", "echo", "there")...)
		require.Zero(t, out.Code, "%v: %s", args, out.Stderr)
		require.Contains(t, out.Stdout, "there", "%v", args)
	}
}

func TestSSHOnATerminal(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)

	shell := alice.Terminal("ssh", "dev")
	shell.Echo("first", harness.Patience)
	shell.Type("stty size\n")
	shell.WaitFor("24 80", quickEcho)
	shell.Resize(50, 132)
	harness.Eventually(t, quickEcho, func() error {
		shell.Type("stty size\n")
		if strings.Contains(shell.Output(), "50 132") {
			return nil
		}
		return os.ErrNotExist
	})
	// Ctrl-C goes to the program there, not to the command here.
	shell.Type("sleep 100; echo slept-$((40+2))\n")
	time.Sleep(500 * time.Millisecond)
	shell.Type("\x03")
	shell.Echo("after", quickEcho)
	require.NotContains(t, shell.Output(), "slept-42")
	shell.Type("exit 5\n")
	require.Equal(t, 5, shell.Wait(quickEcho))
}

func TestSSHForwardsTheAuthenticationAgent(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	fingerprint := startAuthAgent(t, site, alice)
	require.Contains(t, alice.Must("ssh", "-A", "dev", "--", "ssh-add", "-l"), fingerprint)
	out := alice.Coder("ssh", "dev", "--", "ssh-add", "-l")
	require.NotContains(t, out.Stdout, fingerprint, "only when it was asked for")
}

func TestSSHForwardsARemotePort(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	target := echoServer(t)
	port := harness.FreePort(t)
	shell := alice.Terminal("ssh", "-R", port+":"+target, "dev")
	shell.Echo("up", harness.Patience)
	requireEcho(t, "127.0.0.1:"+port)
}

func TestSSHWaitsForTheAgentAndForItsStartScript(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.script]]
display_name = "Prepare"
run_on_start = true
start_blocks_login = true
script = "echo preparing; sleep 3; echo done > @SCRATCH@/prepared"
`)
	alice := site.SignedIn(harness.Owner)
	waiting := alice.Start("ssh", "dev", "--", "cat", site.Scratch("prepared"))
	waiting.WaitFor("Waiting for the workspace agent to connect", harness.Patience)
	site.StartAgent(harness.AgentOptions{})
	require.Zero(t, waiting.Wait(harness.Patience), waiting.Output())
	require.Contains(t, waiting.Output(), "done", "it came in after the script")
	require.Contains(t, waiting.Output(), "preparing", "and its lines were shown meanwhile")
}

// TestSSHSignalsReachTheCommand uses the client library, because neither the
// coder command nor OpenSSH has a way to send a signal over the connection.
func TestSSHSignalsReachTheCommand(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	connected(t, site)
	ctx := harness.Context(t, time.Minute)
	conn, err := workspacesdk.New(site.Client).DialAgent(ctx, site.AgentID, nil)
	require.NoError(t, err)
	defer conn.Close()
	require.True(t, conn.AwaitReachable(ctx))
	client, err := conn.SSHClient(ctx)
	require.NoError(t, err)
	defer client.Close()

	for signal, expected := range map[ssh.Signal]int{ssh.SIGINT: 12, ssh.SIGTERM: 15, ssh.SIGHUP: 11} {
		session, err := client.NewSession()
		require.NoError(t, err)
		output, err := session.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, session.Start(`trap "exit 12" INT; trap "exit 15" TERM; trap "exit 11" HUP; echo up; while :; do sleep 0.1; done`))
		line := make([]byte, 3)
		_, err = io.ReadFull(output, line)
		require.NoError(t, err)
		require.NoError(t, session.Signal(signal))
		var ended *ssh.ExitError
		require.ErrorAs(t, session.Wait(), &ended)
		require.Equal(t, expected, ended.ExitStatus(), "%v", signal)
	}
}

// TestSSHEndsWhenItsAgentStops: a machine that is shut down in good order leaves
// nobody before a dead terminal.
func TestSSHEndsWhenItsAgentStops(t *testing.T) {
	t.Parallel()
	for _, network := range harness.Networks {
		t.Run(network.Name, func(t *testing.T) {
			t.Parallel()
			site := harness.NewSiteOn(t, network, "")
			agent, alice := connected(t, site)
			alice.ConfigSSH()
			own := alice.Terminal("ssh", "dev")
			own.Echo("own", harness.Patience)
			open := alice.TerminalSSH("-t", "coder.dev")
			open.Echo("open", harness.Patience)
			agent.Stop()
			require.NotZero(t, own.Wait(harness.Patience))
			require.Equal(t, 255, open.Wait(harness.Patience))
		})
	}
}
