package interop

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	agentproto "github.com/coder/coder/v2/agent/proto"
	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/agentrpc"
	"moorline.test/interop/internal/harness"
)

func TestSubAgentLivesUnderItsParent(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
troubleshooting_url = "https://help.example.test/"
connection_timeout_seconds = 33
`)
	ctx := harness.Context(t, 2*harness.Patience)
	parent := site.MustDial().Agent
	name, check := "Editor", "http://127.0.0.1:1/healthz"
	reply, err := parent.CreateSubAgent(ctx, &agentproto.CreateSubAgentRequest{
		Name:            "web-1",
		Directory:       "/workspaces/web",
		Architecture:    "arm64",
		OperatingSystem: "linux",
		Apps: []*agentproto.CreateSubAgentRequest_App{
			{
				Slug: "editor", DisplayName: &name,
				Healthcheck: &agentproto.CreateSubAgentRequest_App_Healthcheck{Interval: 5, Threshold: 6, Url: check},
			},
			{Slug: "Not A Slug"},
			{Slug: "editor"},
		},
		DisplayApps: []agentproto.CreateSubAgentRequest_DisplayApp{agentproto.CreateSubAgentRequest_WEB_TERMINAL},
	})
	require.NoError(t, err)
	require.NotNil(t, reply.Agent, "dereferenced without a check")
	require.Equal(t, "web-1", reply.Agent.Name)
	require.Len(t, reply.AppCreationErrors, 2)
	require.EqualValues(t, 1, reply.AppCreationErrors[0].Index)
	require.EqualValues(t, 2, reply.AppCreationErrors[1].Index)
	id, err := uuid.FromBytes(reply.Agent.Id)
	require.NoError(t, err)
	token, err := uuid.FromBytes(reply.Agent.AuthToken)
	require.NoError(t, err)

	list, err := parent.ListSubAgents(ctx, &agentproto.ListSubAgentsRequest{})
	require.NoError(t, err)
	require.Len(t, list.Agents, 1)
	require.Equal(t, reply.Agent.Id, list.Agents[0].Id)
	require.Equal(t, reply.Agent.AuthToken, list.Agents[0].AuthToken)

	child, err := site.Client.WorkspaceAgent(ctx, id)
	require.NoError(t, err)
	require.Equal(t, uuid.NullUUID{UUID: site.AgentID, Valid: true}, child.ParentID)
	require.Equal(t, "web-1", child.Name)
	require.Equal(t, "arm64", child.Architecture)
	require.Equal(t, "/workspaces/web", child.Directory)
	require.EqualValues(t, 33, child.ConnectionTimeoutSeconds)
	require.Equal(t, "https://help.example.test/", child.TroubleshootingURL)
	require.Equal(t, []codersdk.DisplayApp{codersdk.DisplayAppWebTerminal}, child.DisplayApps)
	require.Len(t, child.Apps, 1)
	require.Equal(t, "Editor", child.Apps[0].DisplayName)
	require.Regexp(t, `^[0-9a-v]{8}-editor$`, child.Apps[0].Slug)
	require.Equal(t, codersdk.WorkspaceAppHealthInitializing, child.Apps[0].Health)

	// The child is an ordinary agent that knows its parent.
	conn, err := site.Dial(token.String(), agentrpc.Version("2.6"))
	require.NoError(t, err)
	manifest, err := conn.Agent.GetManifest(ctx, &agentproto.GetManifestRequest{})
	require.NoError(t, err)
	require.Equal(t, site.AgentID[:], manifest.ParentId)
	require.Equal(t, id[:], manifest.AgentId)
	requireUsableMap(t, manifest.DerpMap)
	harness.Eventually(t, harness.Patience, func() error {
		child, err = site.Client.WorkspaceAgent(ctx, id)
		if err != nil {
			return err
		}
		return harness.In(child, codersdk.WorkspaceAgentConnected, child.LifecycleState)
	})

	_, err = parent.DeleteSubAgent(ctx, &agentproto.DeleteSubAgentRequest{Id: id[:]})
	require.NoError(t, err)
	list, err = parent.ListSubAgents(ctx, &agentproto.ListSubAgentsRequest{})
	require.NoError(t, err)
	require.Empty(t, list.Agents)
	_, err = site.Dial(token.String(), agentrpc.Version("2.6"))
	require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)
	_, err = site.Client.WorkspaceAgent(ctx, id)
	require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)
}

func TestSubAgentsOfOthersAreOutOfReach(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	other := site.AddWorkspace(harness.Owner, "other").Agents[0]
	stranger, err := site.Dial(other.Token, agentrpc.Version("2.6"))
	require.NoError(t, err)
	mine, err := site.MustDial().Agent.CreateSubAgent(ctx, &agentproto.CreateSubAgentRequest{
		Name: "mine", Directory: "/x", Architecture: "amd64", OperatingSystem: "linux",
	})
	require.NoError(t, err)

	list, err := stranger.Agent.ListSubAgents(ctx, &agentproto.ListSubAgentsRequest{})
	require.NoError(t, err)
	require.Empty(t, list.Agents)
	_, err = stranger.Agent.DeleteSubAgent(ctx, &agentproto.DeleteSubAgentRequest{Id: mine.Agent.Id})
	require.Error(t, err)
	id, err := uuid.FromBytes(mine.Agent.Id)
	require.NoError(t, err)
	_, err = site.Client.WorkspaceAgent(ctx, id)
	require.NoError(t, err, "still there")
}

func TestSubAgentNamesAreChecked(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	api := site.MustDial().Agent
	for _, name := range []string{"", "-a", "a-", "a--b", "a b", "a.b", "ä"} {
		_, err := api.CreateSubAgent(ctx, &agentproto.CreateSubAgentRequest{
			Name: name, Directory: "/x", Architecture: "amd64", OperatingSystem: "linux",
		})
		require.Error(t, err, "%q", name)
	}
	// The error of one call leaves the connection alone.
	_, err := api.CreateSubAgent(ctx, &agentproto.CreateSubAgentRequest{
		Name: "Fine-1", Directory: "/x", Architecture: "amd64", OperatingSystem: "linux",
	})
	require.NoError(t, err)
}
