package interop

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	agentproto "github.com/coder/coder/v2/agent/proto"
	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/agentrpc"
	"moorline.test/interop/internal/harness"
)

// revokedWithin is how soon an open connection of a replaced token must end.
const revokedWithin = 2 * time.Second

func TestRotatedTokenIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	open := site.MustDial()

	rotated := site.RotateToken(harness.Owner + "/" + harness.Workspace + "." + harness.AgentName)
	require.Len(t, rotated.Agents, 1)
	fresh := rotated.Agents[0]
	require.Equal(t, site.AgentID, fresh.ID, "the machine keeps its identity")
	require.NotEqual(t, site.Token, fresh.Token)

	select {
	case <-open.Closed():
	case <-time.After(revokedWithin):
		require.Fail(t, "a connection of the old token is still open")
	}
	site.WaitStatus(codersdk.WorkspaceAgentDisconnected, revokedWithin)
	agent.WaitCount("unexpected status code 401", 1, harness.Patience)
	require.NoError(t, agent.Alive())

	_, err := site.Dial(site.Token, agentrpc.Version("2.6"))
	require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)
	_, err = site.AgentClient(site.Token).GitSSHKey(harness.Context(t, harness.Patience))
	require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)

	site.StartAgent(harness.AgentOptions{Token: fresh.Token})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	require.NoError(t, agent.Alive())
}

func TestRotationOfAWorkspaceIsForgottenByNobodyAfterARestart(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	fresh := site.RotateToken(harness.Owner + "/" + harness.Workspace).Agents[0]
	site.Kill()
	site.StartAgain()
	_, err := site.Dial(site.Token, agentrpc.Version("2.6"))
	require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)
	_, err = site.Dial(fresh.Token, agentrpc.Version("2.6"))
	require.NoError(t, err)
}

func TestTokensThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	for name, token := range map[string]string{
		"absent":     "",
		"not a uuid": "letmein",
		"unknown":    uuid.NewString(),
		"a user's":   site.Client.SessionToken(),
	} {
		_, err := site.Dial(token, agentrpc.Version("2.6"))
		require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%s: %v", name, err)
	}
	// Where tokens are UUIDs, any textual form of one is the same token.
	if _, err := uuid.Parse(site.Token); err != nil {
		return
	}
	for _, token := range []string{
		strings.ToUpper(site.Token),
		strings.ReplaceAll(site.Token, "-", ""),
	} {
		_, err := site.Dial(token, agentrpc.Version("2.6"))
		require.NoError(t, err, token)
	}
}

func TestTokenIsTakenFromQueryAndHeaderToo(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	for _, name := range []string{"header", "query"} {
		path, header := "/api/v2/workspaceagents/me/gitsshkey", http.Header{}
		if name == "header" {
			header.Set(codersdk.SessionTokenHeader, site.Token)
		} else {
			path += "?" + codersdk.SessionTokenCookie + "=" + site.Token
		}
		req, err := http.NewRequestWithContext(harness.Context(t, harness.Patience), http.MethodGet, site.Path("%s", path), nil)
		require.NoError(t, err)
		req.Header = header
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusOK, res.StatusCode, name)
	}
}

func TestTwoConnectionsOfOneTokenBothWork(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, 2*harness.Patience)
	older, newer := site.MustDial(), site.MustDial()
	for _, conn := range []*agentrpc.Conn{older, newer} {
		manifest, err := conn.Agent.GetManifest(ctx, &agentproto.GetManifestRequest{})
		require.NoError(t, err)
		require.Equal(t, site.AgentID[:], manifest.AgentId)
	}
	site.WaitStatus(codersdk.WorkspaceAgentConnected, promptly)

	// Upstream shows "disconnected" here until the newer connection's next ping,
	// so that much time is allowed.
	require.NoError(t, older.Close())
	_, err := newer.Agent.GetManifest(ctx, &agentproto.GetManifestRequest{})
	require.NoError(t, err)
	site.WaitStatus(codersdk.WorkspaceAgentConnected, 20*time.Second)

	require.NoError(t, newer.Close())
	site.WaitStatus(codersdk.WorkspaceAgentDisconnected, promptly)
}

func TestConnectionInAnotherRoleLeavesTheStatusAlone(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, 2*harness.Patience)
	helper, err := site.Dial(site.Token, url.Values{"version": {"2.8"}, "role": {"logstream-kube"}})
	require.NoError(t, err)
	_, err = helper.Agent.BatchCreateLogs(ctx, &agentproto.BatchCreateLogsRequest{
		LogSourceId: []byte("short"),
		Logs:        []*agentproto.Log{{Output: "pod is pending"}},
	})
	require.Error(t, err, "a source id must have 16 bytes")
	_, err = helper.Agent.BatchCreateLogs(ctx, &agentproto.BatchCreateLogsRequest{
		LogSourceId: make([]byte, 16),
		Logs:        []*agentproto.Log{{Output: "pod is pending"}},
	})
	require.NoError(t, err)
	require.Equal(t, []string{"pod is pending"}, outputs(site.Logs(0)))

	unchanged := func(got codersdk.WorkspaceAgent) error {
		if got.Status != codersdk.WorkspaceAgentConnecting || got.FirstConnectedAt != nil {
			return fmt.Errorf("a log sender made the agent %s (first connected %v)", got.Status, got.FirstConnectedAt)
		}
		return nil
	}
	require.NoError(t, unchanged(site.Agent()))
	require.NoError(t, helper.Close())
	harness.Throughout(t, time.Second, func() error { return unchanged(site.Agent()) })

	// And the end of such a connection does not take a real agent down.
	named, err := site.Dial(site.Token, url.Values{"version": {"2.9"}, "role": {"agent"}})
	require.NoError(t, err)
	site.WaitStatus(codersdk.WorkspaceAgentConnected, promptly)
	second, err := site.Dial(site.Token, url.Values{"version": {"2.8"}, "role": {"logstream-kube"}})
	require.NoError(t, err)
	_, err = second.Agent.GetAnnouncementBanners(ctx, &agentproto.GetAnnouncementBannersRequest{})
	require.NoError(t, err)
	require.NoError(t, second.Close())
	harness.Throughout(t, time.Second, func() error {
		return harness.In(site.Agent(), codersdk.WorkspaceAgentConnected, codersdk.WorkspaceAgentLifecycleCreated)
	})
	require.NoError(t, named.Close())
}
