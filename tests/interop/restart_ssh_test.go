package interop

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

const (
	copySize = 100 << 20
	// resumeWithin bounds a session's first sign of life after the server is
	// back: relays are redialled within 5 s, coordination within 10 s, and TCP's own
	// next try may be as late again.
	resumeWithin = 45 * time.Second
)

// TestServerRestartBreaksNoSession kills the server while somebody types and
// while a large file is copied in both directions of the same tunnel kind.
func TestServerRestartBreaksNoSession(t *testing.T) {
	t.Parallel()
	for _, network := range harness.Networks {
		t.Run(network.Name, func(t *testing.T) {
			t.Parallel()
			site := harness.NewSiteOn(t, network, "")
			agent, alice := connected(t, site)
			alice.ConfigSSH()
			source := filepath.Join(alice.Home, "big")
			sum := randomFile(t, source, copySize)

			own := alice.Terminal("ssh", "dev")
			own.Echo("own-before", harness.Patience)
			open := alice.TerminalSSH("-t", "coder.dev")
			open.Echo("open-before", harness.Patience)
			target := filepath.Join(agent.Home, "big")
			copying := alice.StartOpenSSH("scp", source, "coder.dev:big")
			waitSize(t, target, copySize/10, time.Minute)

			site.Kill()
			require.True(t, copying.Running(), "the copy was over too early to prove anything")
			if network.Direct {
				// Nothing of the session goes through the server.
				own.Echo("own-without", quickEcho)
				open.Echo("open-without", quickEcho)
			} else {
				time.Sleep(2 * time.Second)
			}
			site.StartAgain()

			t.Logf("%s: coder ssh answered after %v", network.Name, own.Echo("own-after", resumeWithin))
			open.Echo("open-after", resumeWithin)
			require.Zero(t, copying.Wait(2*time.Minute), copying.Output())
			require.Equal(t, sum, checksum(t, target))
			site.WaitAgent(backWithin, func(got codersdk.WorkspaceAgent) error {
				return harness.In(got, codersdk.WorkspaceAgentConnected, codersdk.WorkspaceAgentLifecycleReady)
			})
			// New sessions work, too, and the old ones end in good order.
			require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "anew"), "anew")
			own.Type("exit 3\n")
			require.Equal(t, 3, own.Wait(quickEcho))
			open.Type("exit 4\n")
			require.Equal(t, 4, open.Wait(quickEcho))
			require.NoError(t, agent.Alive())
		})
	}
}

// TestServerStopsInGoodOrderUnderASession is the same for SIGTERM, twice in a row.
func TestServerStopsInGoodOrderUnderASession(t *testing.T) {
	t.Parallel()
	site := harness.NewSiteOn(t, harness.RelayOnly, "")
	_, alice := connected(t, site)
	shell := alice.Terminal("ssh", "dev")
	shell.Echo("before", harness.Patience)
	for _, round := range []string{"first", "second"} {
		require.Less(t, site.Terminate(), 15*time.Second)
		site.StartAgain()
		shell.Echo(round, resumeWithin)
	}
	shell.Type("exit 3\n")
	require.Equal(t, 3, shell.Wait(quickEcho))
}

// TestClientsAreToldOfAKilledAgentWithinSeconds: a list, a waiting command and a
// new ssh all learn it.
func TestClientsAreToldOfAKilledAgentWithinSeconds(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent, alice := connected(t, site)
	watch, err := site.Client.WatchWorkspace(harness.Context(t, time.Minute), site.WorkspaceID)
	require.NoError(t, err)
	shell := alice.Terminal("ssh", "dev")
	shell.Echo("up", harness.Patience)

	killed := time.Now()
	agent.Kill()
	for workspace := range watch {
		if workspace.LatestBuild.Resources[0].Agents[0].Status == codersdk.WorkspaceAgentDisconnected {
			break
		}
	}
	require.Less(t, time.Since(killed), promptly)
	require.Contains(t, alice.Must("show", "dev"), "disconnected")
	anew := alice.Start("ssh", "dev", "--", "true")
	anew.WaitFor("lost", promptly)

	// A new process of the same agent takes the waiting command.
	site.StartAgent(harness.AgentOptions{})
	require.Zero(t, anew.Wait(harness.Patience), anew.Output())
}
