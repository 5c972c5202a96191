package interop

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"
	"github.com/coder/coder/v2/tailnet"
	tailnetproto "github.com/coder/coder/v2/tailnet/proto"

	"moorline.test/interop/internal/agentrpc"
	"moorline.test/interop/internal/harness"
)

// estate is alice with dev, bob with box, and carol with nothing.
type estate struct {
	*harness.Site
	box harness.WorkspaceTokens
}

func newEstate(t *testing.T) estate {
	t.Helper()
	site := harness.NewSite(t, "")
	site.AddUser("bob", false)
	site.AddUser("carol", false)
	return estate{site, site.AddWorkspace("bob", "box")}
}

func TestNobodyReachesWhatIsNotTheirs(t *testing.T) {
	t.Parallel()
	estate := newEstate(t)
	estate.StartAgent(harness.AgentOptions{})
	estate.StartAgent(harness.AgentOptions{Token: estate.box.Agents[0].Token})
	estate.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	alice, bob, carol := estate.SignedIn(harness.Owner), estate.SignedIn("bob"), estate.SignedIn("carol")

	require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "own"), "own")
	require.Contains(t, bob.Must("ssh", "box", "--", "echo", "own"), "own")
	for _, stranger := range []*harness.Person{bob, carol} {
		for _, args := range [][]string{
			{"ssh", "alice/dev", "--", "true"},
			{"ssh", "--stdio", "alice/dev"},
			{"show", "alice/dev"},
			{"ping", "alice/dev", "-n", "1"},
			{"speedtest", "alice/dev"},
			{"port-forward", "alice/dev", "--tcp", harness.FreePort(t) + ":22"},
			{"open", "vscode", "alice/dev", "--test.open-error"},
			{"favorite", "alice/dev"},
			{"stop", "alice/dev", "-y"},
			{"delete", "alice/dev", "-y"},
		} {
			said := stranger.Refused(args...)
			require.Contains(t, said, notYours, "%s: %v", stranger.Name, args)
		}
		require.NotContains(t, stranger.Must("list", "--all"), "alice")
	}
	require.Contains(t, alice.Refused("ssh", "bob/box", "--", "true"), notYours)
	require.Contains(t, alice.Must("list"), "alice/dev")
}

// TestStrangersGetNothingByAnIDTheyKnow asks with real ids, as somebody who once had access.
func TestStrangersGetNothingByAnIDTheyKnow(t *testing.T) {
	t.Parallel()
	estate := newEstate(t)
	ctx := harness.Context(t, time.Minute)
	for _, name := range []string{"bob", "carol"} {
		client := estate.UserClient(estate.CreateToken(name))
		_, err := client.Workspace(ctx, estate.WorkspaceID)
		require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)
		_, err = client.WorkspaceAgent(ctx, estate.AgentID)
		require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)
		_, err = client.WatchWorkspace(ctx, estate.WorkspaceID)
		require.Error(t, err)
		_, _, err = client.WorkspaceAgentLogsAfter(ctx, estate.AgentID, 0, false)
		require.Error(t, err)
		_, err = client.WorkspaceAgentListeningPorts(ctx, estate.AgentID)
		require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)
		_, err = workspacesdk.New(client).AgentConnectionInfo(ctx, estate.AgentID)
		require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)
		_, err = workspacesdk.New(client).DialAgent(ctx, estate.AgentID, nil)
		require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)
		page, err := client.Workspaces(ctx, codersdk.WorkspaceFilter{Owner: harness.Owner})
		if err == nil {
			require.Empty(t, page.Workspaces)
		}
	}
}

// dialUser opens a coordination of a user that ends with the test.
func dialUser(t *testing.T, dial func(ctx context.Context) (*agentrpc.Conn, error)) (*agentrpc.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	conn, err := dial(ctx)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func TestCoordinationRefusesTunnelsToOthers(t *testing.T) {
	t.Parallel()
	estate := newEstate(t)
	bob := estate.CreateToken("bob")
	box := estate.box.Agents[0].ID
	// Alice's agent is there and has a node, so that there were something to tell.
	agent := estate.MustDial()
	region := firstRegion(harness.Context(t, harness.Patience), t, agent.Tailnet)
	stream, err := agent.Tailnet.Coordinate(harness.Context(t, 2*time.Minute))
	require.NoError(t, err)
	publish(t, stream, estate.AgentID, region)
	told := make(chan *tailnetproto.CoordinateResponse, 100)
	go func() {
		for {
			response, err := stream.Recv()
			if err != nil {
				return
			}
			told <- response
		}
	}()

	_, err = dialUser(t, func(ctx context.Context) (*agentrpc.Conn, error) {
		return agentrpc.DialClient(ctx, estate.URL, estate.AgentID, bob, agentrpc.Version("2.0"), http.DefaultTransport)
	})
	require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)

	for name, dial := range map[string]func(ctx context.Context) (*agentrpc.Conn, error){
		"tailnet": func(ctx context.Context) (*agentrpc.Conn, error) {
			return agentrpc.DialTailnet(ctx, estate.URL, bob, agentrpc.Version("2.3"), http.DefaultTransport)
		},
		"coordinate": func(ctx context.Context) (*agentrpc.Conn, error) {
			return agentrpc.DialClient(ctx, estate.URL, box, bob, agentrpc.Version("2.0"), http.DefaultTransport)
		},
	} {
		conn, err := dialUser(t, dial)
		require.NoError(t, err, name)
		for what, request := range map[string]*tailnetproto.CoordinateRequest{
			"another's agent":     {AddTunnel: &tailnetproto.CoordinateRequest_Tunnel{Id: estate.AgentID[:]}},
			"no agent":            {AddTunnel: &tailnetproto.CoordinateRequest_Tunnel{Id: uuidBytes(uuid.New())}},
			"not an id":           {AddTunnel: &tailnetproto.CoordinateRequest_Tunnel{Id: []byte("x")}},
			"ready for handshake": {ReadyForHandshake: []*tailnetproto.CoordinateRequest_ReadyForHandshake{{Id: estate.AgentID[:]}}},
			"the agent's address": {UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: mustNode(t, estate.AgentID, region)}},
			"half of the network": {UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: wideNode(t, region)}},
		} {
			requireRefused(t, conn, request, name+": "+what)
		}
	}
	select {
	case response := <-told:
		t.Errorf("alice's agent was told %v", response)
	case <-time.After(time.Second):
	}
}

// requireRefused sends one request on a stream of its own: it must end with a
// reason, and without anything about another peer.
func requireRefused(t *testing.T, conn *agentrpc.Conn, request *tailnetproto.CoordinateRequest, what string) {
	t.Helper()
	stream, err := conn.Tailnet.Coordinate(harness.Context(t, harness.Patience))
	require.NoError(t, err, what)
	require.NoError(t, stream.Send(request), what)
	response, err := stream.Recv()
	require.NoError(t, err, what)
	require.NotEmpty(t, response.GetError(), what)
	require.Empty(t, response.GetPeerUpdates(), what)
	_, err = stream.Recv()
	require.True(t, errors.Is(err, io.EOF) || err != nil, what)
}

func uuidBytes(id uuid.UUID) []byte { return id[:] }

func mustNode(t *testing.T, id uuid.UUID, region int32) *tailnetproto.Node {
	t.Helper()
	node, err := agentrpc.Node(id, region)
	require.NoError(t, err)
	return node
}

func wideNode(t *testing.T, region int32) *tailnetproto.Node {
	t.Helper()
	node := mustNode(t, uuid.New(), region)
	node.Addresses = []string{tailnet.CoderServicePrefix.AsNetip().String()}
	return node
}

// TestResumeTokensAreBoundToTheirUser: what bob was given is worth nothing to
// carol, and garbage is refused in the way that makes clients drop it.
func TestResumeTokensAreBoundToTheirUser(t *testing.T) {
	t.Parallel()
	estate := newEstate(t)
	ctx := harness.Context(t, harness.Patience)
	dial := func(token, resume string) (*agentrpc.Conn, error) {
		query := agentrpc.Version("2.3")
		if resume != "" {
			query.Set("resume_token", resume)
		}
		return dialUser(t, func(ctx context.Context) (*agentrpc.Conn, error) {
			return agentrpc.DialTailnet(ctx, estate.URL, token, query, http.DefaultTransport)
		})
	}
	bob, carol := estate.CreateToken("bob"), estate.CreateToken("carol")
	conn, err := dial(bob, "")
	require.NoError(t, err)
	reply, err := conn.Tailnet.RefreshResumeToken(ctx, &tailnetproto.RefreshResumeTokenRequest{})
	require.NoError(t, err)
	require.Positive(t, reply.GetRefreshIn().AsDuration())
	_, err = dial(bob, reply.GetToken())
	require.NoError(t, err)
	for _, refused := range []struct{ token, resume string }{
		{carol, reply.GetToken()}, {bob, reply.GetToken() + "x"}, {bob, "nonsense"},
	} {
		_, err = dial(refused.token, refused.resume)
		require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)
		var said *codersdk.Error
		require.ErrorAs(t, err, &said)
		require.Len(t, said.Validations, 1)
		require.Equal(t, "resume_token", said.Validations[0].Field)
	}
	// It outlives the process that made it.
	estate.Kill()
	estate.StartAgain()
	_, err = dial(bob, reply.GetToken())
	require.NoError(t, err)
}
