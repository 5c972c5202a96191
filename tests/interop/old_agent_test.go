package interop

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/harness"
)

func TestOldAgentGetsThroughItsWholeLife(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
directory = "~/work"
env = { GREETING = "hello" }

[[workspace.agent.script]]
display_name = "Start"
run_on_start = true
script = "echo $GREETING from the old one"

[[workspace.agent.script]]
display_name = "Stop"
run_on_stop = true
script = "echo stopping"

[[workspace.agent.metadata]]
key = "counter"
display_name = "Counter"
script = "echo x >> @SCRATCH@/count; wc -l < @SCRATCH@/count"
interval = 1
timeout = 3

[[workspace.agent.app]]
slug = "plain"
display_name = "Plain"
url = "http://127.0.0.1:1/"
`)
	agent := site.StartAgent(harness.AgentOptions{Release: harness.AgentOld})
	got := site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	require.Equal(t, "v2.10.0", got.Version)
	require.Equal(t, "2.0", got.APIVersion)
	require.Equal(t, filepath.Join(agent.Home, "work"), got.ExpandedDirectory)
	require.Equal(t, []string{"hello from the old one"}, outputs(waitLines(t, site, 1)))

	ctx := harness.Context(t, 2*harness.Patience)
	updates, failed := site.Client.WatchWorkspaceAgentMetadata(ctx, site.AgentID)
	for count := 0; count < 2; {
		select {
		case update := <-updates:
			count = byKey(update).number("counter")
		case err := <-failed:
			require.NoError(t, err)
		}
	}

	require.Less(t, agent.Stop(), 5*time.Second)
	gone := site.WaitStatus(codersdk.WorkspaceAgentDisconnected, promptly)
	require.Equal(t, codersdk.WorkspaceAgentLifecycleOff, gone.LifecycleState)
	require.Equal(t, []string{"hello from the old one", "stopping"}, outputs(site.Logs(0)))
	require.Equal(t, 1, agent.Count(harness.LogDialing))
}

func TestOldAgentComesBackAfterARestart(t *testing.T) {
	t.Parallel()
	serverRestart(t, harness.AgentOld, func(s *harness.Site) { s.Kill() })
}

// TestTerminalsAndPortsOfAnOldAgent: what is inside of machines is the same as with the current release, but for
// containers, of which the old one knows nothing.
func TestTerminalsAndPortsOfAnOldAgent(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent := site.StartAgent(harness.AgentOptions{Release: harness.AgentOld})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	opts := ptyOf(site)
	opts.BackendType = "" // the old one does not know the choice
	shell := openTerminal(t, site.Client, opts)
	shell.sum(30, 3)
	shell.send(workspacesdk.ReconnectingPTYRequest{Height: 41, Width: 137})
	shell.typing("kept=yes; stty size\r")
	shell.waitFor("41 137")
	shell.close()
	again := openTerminal(t, site.Client, opts)
	again.typing("echo kept=$kept.\r")
	again.waitFor("kept=yes.")
	again.typing("exit\r")
	require.ErrorIs(t, again.ended(), io.EOF)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	require.Equal(t, "tcp", listedPort(t, site, listener).Network)
	_, err = containers(t, site, nil)
	require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)
	shown := site.SignedIn(harness.Owner).Coder("show", "dev")
	require.Zero(t, shown.Code)
	require.Contains(t, shown.Stdout, "v2.10.0")
	require.NotContains(t, shown.Stderr, "listening ports")
	require.NoError(t, agent.Alive())
}
