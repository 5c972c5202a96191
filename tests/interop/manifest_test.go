package interop

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	agentproto "github.com/coder/coder/v2/agent/proto"
	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/agentsdk"
	"github.com/coder/coder/v2/tailnet"
	tailnetproto "github.com/coder/coder/v2/tailnet/proto"

	"moorline.test/interop/internal/agentrpc"
	"moorline.test/interop/internal/harness"
)

// fullAgent has one of everything that a manifest can carry.
const fullAgent = `
directory = "~/src"
env = { A = "1" }
motd_file = "/etc/motd"

[[workspace.agent.script]]
display_name = "Start"
script = "true"
log_path = "start.log"
cron = "0 0 0 * * *"
run_on_start = true
run_on_stop = true
start_blocks_login = true
timeout_seconds = 90

[[workspace.agent.metadata]]
key = "load"
display_name = "Load"
script = "uptime"
interval = 10
timeout = 3

[[workspace.agent.app]]
slug = "bare"
display_name = "Bare"
url = "http://127.0.0.1:1/"

[[workspace.agent.app]]
slug = "checked"
display_name = "Checked"
url = "http://127.0.0.1:2/"
healthcheck_url = "http://127.0.0.1:2/healthz"
healthcheck_interval = 5
healthcheck_threshold = 6
`

func TestManifestHasNoneOfTheTrapsThatCrashAnAgent(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, fullAgent)
	ctx := harness.Context(t, harness.Patience)
	// Through the client library itself, not our own dialler.
	agentAPI, tailnetAPI, err := site.AgentClient(site.Token).ConnectRPC26(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = agentAPI.DRPCConn().Close() })

	raw, err := agentAPI.GetManifest(ctx, &agentproto.GetManifestRequest{})
	require.NoError(t, err)
	requireUsableMap(t, raw.DerpMap)
	require.Nil(t, raw.ParentId, "present and empty bytes are an error for the agent")
	require.Len(t, raw.Apps, 2)
	for _, app := range raw.Apps {
		require.NotNil(t, app.Healthcheck, "%s: dereferenced without a check", app.Slug)
		require.NotZero(t, app.SharingLevel, app.Slug)
		require.NotZero(t, app.Health, app.Slug)
		require.Len(t, app.Id, 16)
	}

	manifest, err := agentsdk.ManifestFromProto(raw)
	require.NoError(t, err)
	require.Equal(t, site.AgentID, manifest.AgentID)
	require.Equal(t, site.WorkspaceID, manifest.WorkspaceID)
	require.Equal(t, harness.AgentName, manifest.AgentName)
	require.Equal(t, harness.Owner, manifest.OwnerName)
	require.Equal(t, harness.Workspace, manifest.WorkspaceName)
	require.Equal(t, "~/src", manifest.Directory)
	require.Equal(t, "/etc/motd", manifest.MOTDFile)
	require.Equal(t, map[string]string{"A": "1"}, manifest.EnvironmentVariables)
	require.Zero(t, manifest.GitAuthConfigs, "no git provider is configured")
	require.Empty(t, manifest.VSCodePortProxyURI, "there is no app proxy to point to")

	seen := site.Agent()
	require.Len(t, manifest.Scripts, 1)
	script := manifest.Scripts[0]
	require.Equal(t, seen.Scripts[0], script)
	require.Equal(t, 90*time.Second, script.Timeout)
	require.Equal(t, "0 0 0 * * *", script.Cron)
	require.Equal(t, codersdk.WorkspaceAgentStartupScriptBehaviorBlocking, seen.StartupScriptBehavior)

	apps := map[string]codersdk.WorkspaceApp{}
	for _, app := range manifest.Apps {
		apps[app.Slug] = app
	}
	require.Equal(t, codersdk.WorkspaceAppHealthDisabled, apps["bare"].Health)
	require.Empty(t, apps["bare"].Healthcheck.URL)
	require.Equal(t, codersdk.WorkspaceAppHealthInitializing, apps["checked"].Health)
	require.Equal(t, codersdk.Healthcheck{URL: "http://127.0.0.1:2/healthz", Interval: 5, Threshold: 6}, apps["checked"].Healthcheck)

	// The agent takes the nanoseconds of these durations for seconds.
	require.Len(t, raw.Metadata, 1)
	require.EqualValues(t, 10, raw.Metadata[0].Interval.AsDuration())
	require.EqualValues(t, 3, raw.Metadata[0].Timeout.AsDuration())

	stream, err := tailnetAPI.StreamDERPMaps(ctx, &tailnetproto.StreamDERPMapsRequest{})
	require.NoError(t, err)
	defer stream.Close()
	derpMap, err := stream.Recv()
	require.NoError(t, err)
	requireUsableMap(t, derpMap)
}

func TestEmptyManifestIsGoodToo(t *testing.T) {
	t.Parallel()
	// What `workspace add` makes, with nothing configured.
	server := harness.StartServer(t)
	server.AddUser("bob", true)
	added := server.AddWorkspace("bob", "bare")
	site := &harness.Site{Server: server, AgentID: added.Agents[0].ID, Token: added.Agents[0].Token}
	site.Client = site.UserClient(server.CreateToken("bob"))

	raw, err := site.MustDial().Agent.GetManifest(harness.Context(t, harness.Patience), &agentproto.GetManifestRequest{})
	require.NoError(t, err)
	requireUsableMap(t, raw.DerpMap)
	manifest, err := agentsdk.ManifestFromProto(raw)
	require.NoError(t, err)
	require.Equal(t, "bob", manifest.OwnerName)
	require.Equal(t, "bare", manifest.WorkspaceName)
	require.Empty(t, manifest.Apps)
	require.Empty(t, manifest.Scripts)
	require.Empty(t, manifest.Metadata)

	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	require.NoError(t, agent.Alive())
}

func TestIntervalsThatMustNotBeZeroAreNot(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	for _, version := range []string{"2.0", "2.6"} {
		conn, err := site.Dial(site.Token, agentrpc.Version(version))
		require.NoError(t, err)

		resources, err := conn.Agent.GetResourcesMonitoringConfiguration(ctx, &agentproto.GetResourcesMonitoringConfigurationRequest{})
		require.NoError(t, err)
		require.NotNil(t, resources.Config)
		require.Positive(t, resources.Config.CollectionIntervalSeconds)
		require.Positive(t, resources.Config.NumDatapoints)

		for _, stats := range []*agentproto.Stats{nil, {}, {ConnectionCount: 3, ConnectionMedianLatencyMs: -0.001}} {
			reply, err := conn.Agent.UpdateStats(ctx, &agentproto.UpdateStatsRequest{Stats: stats})
			require.NoError(t, err)
			require.Positive(t, reply.ReportInterval.AsDuration())
		}
	}
}

// requireUsableMap checks what the agent dereferences or needs in a DERP map.
func requireUsableMap(t *testing.T, raw *tailnetproto.DERPMap) {
	t.Helper()
	require.NotNil(t, raw)
	require.NotNil(t, raw.HomeParams, "dereferenced without a check")
	require.NotEmpty(t, raw.Regions)
	relays := 0
	for id, region := range tailnet.DERPMapFromProto(raw).Regions {
		require.Equal(t, id, region.RegionID)
		for _, node := range region.Nodes {
			require.Equal(t, id, node.RegionID)
			if !node.STUNOnly {
				relays++
			}
		}
	}
	require.Positive(t, relays)
}
