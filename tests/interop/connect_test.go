package interop

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// promptly bounds what the server learns from a broken TCP connection, for which
// it needs no timer.
const promptly = 5 * time.Second

func TestAgentConnectsAndReportsItself(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
directory = "~/project"
troubleshooting_url = "https://help.example.test/"
connection_timeout_seconds = 77
`)

	before := site.Agent()
	require.Equal(t, codersdk.WorkspaceAgentConnecting, before.Status)
	require.Equal(t, codersdk.WorkspaceAgentLifecycleCreated, before.LifecycleState)
	require.Nil(t, before.FirstConnectedAt)
	require.Empty(t, before.Version)

	agent := site.StartAgent(harness.AgentOptions{Env: []string{"CODER_AGENT_SUBSYSTEM=exectrace,envbox"}})
	got := site.WaitState(codersdk.WorkspaceAgentLifecycleReady)

	require.Equal(t, "v2.24.0", got.Version)
	require.Equal(t, "2.6", got.APIVersion)
	require.Equal(t, filepath.Join(agent.Home, "project"), got.ExpandedDirectory)
	require.Equal(t, "~/project", got.Directory)
	require.Equal(t, []codersdk.AgentSubsystem{codersdk.AgentSubsystemEnvbox, codersdk.AgentSubsystemExectrace}, got.Subsystems)
	require.Equal(t, harness.AgentName, got.Name)
	require.Equal(t, "linux", got.OperatingSystem)
	require.Equal(t, "amd64", got.Architecture)
	require.EqualValues(t, 77, got.ConnectionTimeoutSeconds)
	require.Equal(t, "https://help.example.test/", got.TroubleshootingURL)
	require.False(t, got.ParentID.Valid)
	require.True(t, got.Health.Healthy, got.Health.Reason)

	require.NotNil(t, got.FirstConnectedAt)
	require.NotNil(t, got.LastConnectedAt)
	require.NotNil(t, got.StartedAt)
	require.NotNil(t, got.ReadyAt)
	require.Nil(t, got.DisconnectedAt)
	require.False(t, got.FirstConnectedAt.After(*got.LastConnectedAt))
	require.False(t, got.StartedAt.After(*got.ReadyAt))
	require.WithinDuration(t, time.Now(), *got.LastConnectedAt, harness.Patience)

	// The node that the agent published carries its relay latency.
	site.WaitAgent(harness.Patience, func(agent codersdk.WorkspaceAgent) error {
		for _, region := range agent.DERPLatency {
			if region.Preferred {
				return nil
			}
		}
		return fmt.Errorf("no preferred relay region in %v", agent.DERPLatency)
	})
	require.NoError(t, agent.Alive())
}

func TestKilledAgentIsDisconnectedAtOnceAndComesBackAsANewProcess(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent := site.StartAgent(harness.AgentOptions{})
	first := site.WaitState(codersdk.WorkspaceAgentLifecycleReady)

	agent.Kill()
	gone := site.WaitStatus(codersdk.WorkspaceAgentDisconnected, promptly)
	require.NotNil(t, gone.DisconnectedAt)
	require.False(t, gone.DisconnectedAt.Before(*gone.LastConnectedAt))
	require.False(t, gone.Health.Healthy)
	require.Equal(t, codersdk.WorkspaceAgentLifecycleReady, gone.LifecycleState, "nobody reported another state")

	site.StartAgent(harness.AgentOptions{})
	again := site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	require.Equal(t, *first.FirstConnectedAt, *again.FirstConnectedAt)
	site.WaitAgent(harness.Patience, func(agent codersdk.WorkspaceAgent) error {
		if !agent.StartedAt.After(*first.StartedAt) {
			return fmt.Errorf("started_at is still %v", agent.StartedAt)
		}
		return nil
	})
}

func TestAgentStaysConnectedThroughKeepAlivesAndReports(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	first := site.Agent()

	// 40 s covers two of the server's pings (15 s), one of the agent's own
	// (30 s), and the 30 s after which a silent agent counts as gone.
	harness.Throughout(t, 40*time.Second, func() error {
		if err := agent.Alive(); err != nil {
			return err
		}
		return harness.In(site.Agent(), codersdk.WorkspaceAgentConnected, codersdk.WorkspaceAgentLifecycleReady)
	})
	require.True(t, site.Agent().LastConnectedAt.After(*first.LastConnectedAt), "last_connected_at moves while connected")
	require.Equal(t, 1, agent.Count(harness.LogDialing), "one dial, no reconnect")
	require.Zero(t, agent.Count(harness.LogConnError))
	require.Zero(t, agent.Count(harness.LogRunError))
	// The reinit stream has been open all the time: each end of it is an error
	// in the agent's log.
	require.Zero(t, agent.Count(harness.LogReinitErr))
}
