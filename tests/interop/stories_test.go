package interop

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/agent/proto"
	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/agentsdk"

	"moorline.test/interop/internal/agentrpc"
	"moorline.test/interop/internal/harness"
)

// These tests replay what went wrong elsewhere. The numbers are those of the
// project's collection of failure stories; 15, 34, 35 and 38 are in revocation,
// trust, trust and relay.

// soak is how long a story lasts: as long as in real life when asked for.
func soak(short time.Duration) time.Duration {
	if os.Getenv("MOORLINE_INTEROP_SOAK") != "" {
		return 10 * time.Minute
	}
	return short
}

// Story 1: a proxy cuts idle WebSockets.
func TestIdleSessionOutlivesAProxyThatCutsIdleSockets(t *testing.T) {
	t.Parallel()
	site := harness.NewSiteOn(t, harness.WebSockets, "")
	agent, alice := connected(t, site)
	own := alice.Terminal("ssh", "dev")
	own.Echo("own", harness.Patience)
	alice.ConfigSSH()
	open := alice.TerminalSSH("-t", "coder.dev")
	open.Echo("open", harness.Patience)

	time.Sleep(soak(2*harness.IdleCut + 5*time.Second))
	own.Echo("own-after", quickEcho)
	open.Echo("open-after", quickEcho)
	require.Equal(t, 1, agent.Count(harness.LogDialing), "the agent's connection was never cut")
	for _, path := range site.Box.Cut() {
		// Clients keep the connection of a finished request open for a next one.
		require.NotRegexp(t, "^/derp$|/rpc$|/coordinate$|/watch$", path, "the server's signs of life are too rare")
	}
}

// Story 3: a proxy answers the relay's own upgrade with a page or a redirect to
// one, which no client takes for a refusal. With WebSockets forced nobody asks it.
func TestForcedWebSocketsPassAProxyWithSingleSignOn(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"page": harness.LoginPage,
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://sso.example.test/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			network := harness.Behind(harness.MiddleboxOptions{OtherUpgrade: answer}, "--derp-force-websockets=true")
			site := harness.NewSiteOn(t, network, "")
			_, alice := connected(t, site)
			require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "through"), "through")
			require.Contains(t, alice.Must("ping", "dev", "-n", "1"), "proxied via DERP("+relayName+")")
			require.Zero(t, site.Box.Refused(), "neither agent nor client tried another upgrade")
		})
	}
}

// Story 4: a load balancer leaves the client's half of a connection open after
// the server has gone.
func TestAgentNoticesAHalfOpenConnection(t *testing.T) {
	t.Parallel()
	site := harness.NewSiteOn(t, harness.Behind(harness.MiddleboxOptions{HoldHalfOpen: true}, "--derp-force-websockets=true"), "")
	agent, alice := connected(t, site)
	site.Kill()
	site.StartAgain()
	begun := time.Now()
	// Twice the 30 s after which agents look for a sign of life, and the redial.
	agent.WaitCount(harness.LogManifest, 2, 75*time.Second)
	t.Logf("registered again after %v", time.Since(begun))
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	site.WaitStatus(codersdk.WorkspaceAgentConnected, harness.Patience)
	_ = alice
}

// Story 6: a laptop sleeps, longer than any sign of life is waited for.
func TestSleepingLaptopResumes(t *testing.T) {
	t.Parallel()
	for _, network := range harness.Networks {
		t.Run(network.Name, func(t *testing.T) {
			t.Parallel()
			site := harness.NewSiteOn(t, network, "")
			_, alice := connected(t, site)
			shell := alice.Terminal("ssh", "dev")
			shell.Echo("before", harness.Patience)
			shell.Pause()
			time.Sleep(soak(40 * time.Second))
			shell.Resume()
			// It resumes; an end with a message would do, too, a long silence not.
			took := shell.Echo("after", 20*time.Second)
			t.Logf("%s: awake again after %v", network.Name, took)
		})
	}
}

// Story 10: the control plane is away while the tunnel is fine.
func TestSSHSurvivesWithoutTheControlPlane(t *testing.T) {
	t.Parallel()
	site := harness.NewSiteOn(t, harness.Direct, "")
	agent, alice := connected(t, site)
	shell := alice.Terminal("ssh", "dev")
	shell.Echo("before", harness.Patience)
	site.Kill()
	for end, round := time.Now().Add(soak(30*time.Second)), 0; time.Now().Before(end); round++ {
		shell.Echo(fmt.Sprintf("without%d", round), quickEcho)
		time.Sleep(time.Second)
	}
	site.StartAgain()
	site.WaitAgent(backWithin, func(got codersdk.WorkspaceAgent) error {
		return harness.In(got, codersdk.WorkspaceAgentConnected, codersdk.WorkspaceAgentLifecycleReady)
	})
	shell.Echo("after", quickEcho)
	require.NoError(t, agent.Alive())
	require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "anew"), "anew")
}

// Story 11: a log streamer uses the agent's own token beside the agent.
func TestSecondClientOfTheSameTokenIsNotTheAgent(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	streamer := func(role string) {
		query := agentrpc.Version("2.0")
		if role != "" {
			query.Set("role", role)
		}
		conn, err := site.Dial(site.Token, query)
		require.NoError(t, err)
		ctx := harness.Context(t, harness.Patience)
		source, err := site.AgentClient(site.Token).PostLogSource(ctx, agentsdk.PostLogSourceRequest{DisplayName: "Kubernetes"})
		require.NoError(t, err)
		_, err = conn.Agent.BatchCreateLogs(ctx, &proto.BatchCreateLogsRequest{
			LogSourceId: source.ID[:], Logs: []*proto.Log{{Output: "pod scheduled", Level: proto.Log_INFO}},
		})
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	// Before the agent has ever come, nobody takes the streamer for it.
	streamer("logstream-kube")
	require.Equal(t, codersdk.WorkspaceAgentConnecting, site.Agent().Status)

	agent, alice := connected(t, site)
	shell := alice.Terminal("ssh", "dev")
	shell.Echo("before", harness.Patience)
	streamer("logstream-kube")
	streamer("")
	harness.Throughout(t, 5*time.Second, func() error {
		return harness.In(site.Agent(), codersdk.WorkspaceAgentConnected, codersdk.WorkspaceAgentLifecycleReady)
	})
	require.Equal(t, 1, agent.Count(harness.LogDialing), "the agent was not pushed out")
	shell.Echo("after", quickEcho)
}
