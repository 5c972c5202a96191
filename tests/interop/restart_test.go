package interop

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// backWithin is how long an agent may take after the server is ready again. Its
// own pause before an early redial is up to 10 s.
const backWithin = 15 * time.Second

// restartAgent has everything whose repetition or loss a restart could cause.
const restartAgent = `
[[workspace.agent.script]]
display_name = "Start"
run_on_start = true
script = "echo started; echo run >> @SCRATCH@/runs"
`

func TestServerComesBackFromSIGKILLWithEverything(t *testing.T) {
	t.Parallel()
	serverRestart(t, harness.AgentCurrent, func(s *harness.Site) { s.Kill() })
}

func TestServerComesBackFromSIGTERMWithEverything(t *testing.T) {
	t.Parallel()
	serverRestart(t, harness.AgentCurrent, func(s *harness.Site) {
		require.Less(t, s.Terminate(), 15*time.Second)
	})
}

func TestAgentSurvivesManyRestartsInARow(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, restartAgent)
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	for round := 2; round <= 4; round++ {
		site.Kill()
		site.StartAgain()
		waitBack(t, site, agent, round)
	}
	require.Equal(t, 1, lineCount(t, site.Scratch("runs")))
}

func serverRestart(t *testing.T, release string, stop func(*harness.Site)) {
	t.Helper()
	site := harness.NewSite(t, restartAgent)
	agent := site.StartAgent(harness.AgentOptions{Release: release})
	before := site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	logs := waitLines(t, site, 1)
	require.Equal(t, []string{"started"}, outputs(logs))

	stop(site)
	require.NoError(t, agent.Alive())
	site.StartAgain()

	// Nothing that a client was told has gone, even before the agent is back.
	down := site.Agent()
	require.Equal(t, codersdk.WorkspaceAgentLifecycleReady, down.LifecycleState)
	require.Equal(t, before.Version, down.Version)
	require.Equal(t, before.ExpandedDirectory, down.ExpandedDirectory)
	require.Equal(t, *before.FirstConnectedAt, *down.FirstConnectedAt)
	require.Equal(t, *before.ReadyAt, *down.ReadyAt)
	require.Equal(t, logs, site.Logs(0))

	waitBack(t, site, agent, 2)
	after := site.Agent()
	require.Equal(t, *before.FirstConnectedAt, *after.FirstConnectedAt)
	require.True(t, after.LastConnectedAt.After(*before.LastConnectedAt))
	require.Equal(t, *before.StartedAt, *after.StartedAt, "a state that was acknowledged is not sent again")
	require.Equal(t, logs, site.Logs(0), "lines that were acknowledged are not sent again")
	require.Equal(t, 1, lineCount(t, site.Scratch("runs")), "scripts run once per agent process")

	// The token is still good for REST as well.
	_, err := site.AgentClient(site.Token).GitSSHKey(harness.Context(t, harness.Patience))
	require.NoError(t, err)
	require.NotEqual(t, http.StatusUnauthorized, harness.Status(err))
}

// waitBack waits for the agent's n-th session.
func waitBack(t *testing.T, site *harness.Site, agent *harness.Agent, n int) {
	t.Helper()
	agent.WaitCount(harness.LogManifest, n, backWithin)
	site.WaitAgent(backWithin, func(got codersdk.WorkspaceAgent) error {
		if err := agent.Alive(); err != nil {
			return err
		}
		if got.DisconnectedAt != nil && got.Status == codersdk.WorkspaceAgentConnected {
			return fmt.Errorf("connected, but disconnected_at is %v", got.DisconnectedAt)
		}
		return harness.In(got, codersdk.WorkspaceAgentConnected, codersdk.WorkspaceAgentLifecycleReady)
	})
}
