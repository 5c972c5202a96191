package interop

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

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
