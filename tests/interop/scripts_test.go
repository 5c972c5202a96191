package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

func TestManifestReachesTheStartScript(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
directory = "@SCRATCH@"
env = { GREETING = "good morning", FROM_HOME = "$HOME/x" }

[[workspace.agent.script]]
display_name = "Start"
run_on_start = true
script = '''
printf '%s\n' "$GREETING" "$FROM_HOME" "$PWD" "$CODER" "$CODER_WORKSPACE_OWNER_NAME" \
  "$CODER_WORKSPACE_NAME" "$CODER_WORKSPACE_AGENT_NAME" "$CODER_AGENT_TOKEN" > @SCRATCH@/seen.part
mv @SCRATCH@/seen.part @SCRATCH@/seen
'''
`)
	agent := site.StartAgent(harness.AgentOptions{})
	seen := strings.Split(strings.TrimRight(harness.WaitFile(t, site.Scratch("seen")), "\n"), "\n")

	require.Equal(t, []string{
		"good morning",
		filepath.Join(agent.Home, "x"), // expanded by the agent, not by us
		filepath.Clean(site.Scratch("")),
		"true",
		harness.Owner,
		harness.Workspace,
		harness.AgentName,
		site.Token,
	}, seen)

	got := site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	require.Equal(t, map[string]string{"GREETING": "good morning", "FROM_HOME": "$HOME/x"}, got.EnvironmentVariables)
	require.Len(t, got.Scripts, 1)
	require.True(t, got.Scripts[0].RunOnStart)
	require.Equal(t, "Start", got.Scripts[0].DisplayName)
}

func TestFailingStartScriptEndsInStartError(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.script]]
display_name = "Broken"
run_on_start = true
script = "exit 3"
`)
	agent := site.StartAgent(harness.AgentOptions{})
	got := site.WaitState(codersdk.WorkspaceAgentLifecycleStartError)
	require.NotNil(t, got.ReadyAt, "start_error counts as the end of the start")
	require.False(t, got.Health.Healthy)
	require.NoError(t, agent.Alive())
}

func TestSlowStartScriptEndsInStartTimeout(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.script]]
display_name = "Slow"
run_on_start = true
timeout_seconds = 1
script = "exec sleep 300"
`)
	require.Equal(t, time.Second, site.Agent().Scripts[0].Timeout)
	agent := site.StartAgent(harness.AgentOptions{})
	got := site.WaitState(codersdk.WorkspaceAgentLifecycleStartTimeout)
	require.NotNil(t, got.ReadyAt)
	require.NoError(t, agent.Alive())
}

func TestStopScriptRunsAndTheAgentEndsInOff(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.script]]
display_name = "Goodbye"
run_on_stop = true
script = "echo last words; echo done > @SCRATCH@/stopped"
`)
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	// Only an agent whose Coordinate stream is up has something to close in order.
	agent.WaitCount("connected to coordination RPC", 1, harness.Patience)
	require.NoFileExists(t, site.Scratch("stopped"))

	took := agent.Stop()
	// An agent waits 5 s in vain for each thing that the server fails to end or
	// acknowledge, so anything below that means that we answered everything.
	require.Less(t, took, 5*time.Second)
	require.Zero(t, agent.Count(harness.LogCoordSlow))
	require.FileExists(t, site.Scratch("stopped"))

	got := site.WaitStatus(codersdk.WorkspaceAgentDisconnected, promptly)
	require.Equal(t, codersdk.WorkspaceAgentLifecycleOff, got.LifecycleState)
	require.False(t, got.Health.Healthy)
	require.Equal(t, []string{"last words"}, outputs(site.Logs(0)))
}

func TestCronScriptRunsEverySecond(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.script]]
display_name = "Tick"
cron = "* * * * * *"
script = "echo tick >> @SCRATCH@/ticks"
`)
	agent := site.StartAgent(harness.AgentOptions{})
	harness.Eventually(t, harness.Patience, func() error {
		if err := agent.Alive(); err != nil {
			return err
		}
		content, err := os.ReadFile(site.Scratch("ticks"))
		if err == nil && strings.Count(string(content), "tick") < 2 {
			err = fmt.Errorf("only one tick yet")
		}
		return err
	})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	// A refused ScriptCompleted is only seen here.
	require.Zero(t, agent.Count("reporting script completed failed"))
}
