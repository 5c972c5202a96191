package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/agentsdk"

	"moorline.test/interop/internal/agentrpc"
)

// The names that every site uses.
const (
	Owner     = "alice"
	Workspace = "dev"
	AgentName = "main"
)

// Site is a server with one ordinary user who owns one workspace with one agent.
type Site struct {
	*Server
	// Client acts for the owner.
	Client *codersdk.Client

	WorkspaceID uuid.UUID
	AgentID     uuid.UUID
	// Token is the agent's.
	Token string
	// Box is the middlebox before the server, nil without one.
	Box *Middlebox
}

// NewSite starts a server and applies a file with one agent; agent is the TOML
// that follows `[[workspace.agent]]` and its name. `@SCRATCH@` in it stands for
// the folder that Scratch names files in.
func NewSite(t testing.TB, agent string) *Site {
	t.Helper()
	return siteOf(StartServer(t), agent)
}

func siteOf(server *Server, agent string) *Site {
	t := server.t
	t.Helper()
	passwordFile := server.Scratch("password")
	if err := os.WriteFile(passwordFile, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
[[user]]
name = %q
email = "alice@example.test"
password_file = %q

[[workspace]]
owner = %q
name = %q

[[workspace.agent]]
name = %q
os = "linux"
arch = "amd64"
`, Owner, passwordFile, Owner, Workspace, AgentName) +
		strings.ReplaceAll(agent, "@SCRATCH@", server.Scratch(""))

	reply := server.Apply(text)
	if len(reply.Workspaces) != 1 || len(reply.Workspaces[0].Agents) != 1 {
		t.Fatalf("apply: expected one workspace with one agent, got %+v", reply)
	}
	workspace := reply.Workspaces[0]
	s := &Site{
		Server:      server,
		WorkspaceID: workspace.ID,
		AgentID:     workspace.Agents[0].ID,
		Token:       workspace.Agents[0].Token,
	}
	s.Client = s.UserClient(server.CreateToken(Owner))
	return s
}

// UserClient is a client for this session token.
func (s *Site) UserClient(token string) *codersdk.Client {
	client := codersdk.New(s.URL)
	client.SetSessionToken(token)
	if s.trust != nil {
		client.HTTPClient.Transport = s.trust.transport
	}
	return client
}

// AgentClient is a REST client for this agent token.
func (s *Site) AgentClient(token string) *agentsdk.Client {
	client := agentsdk.New(s.URL)
	client.SetSessionToken(token)
	return client
}

// Agent is the agent as its owner sees it now.
func (s *Site) Agent() codersdk.WorkspaceAgent {
	s.t.Helper()
	agent, err := s.Client.WorkspaceAgent(Context(s.t, Patience), s.AgentID)
	if err != nil {
		s.t.Fatalf("get agent: %v", err)
	}
	return agent
}

// WaitAgent waits until the owner sees what check wants.
func (s *Site) WaitAgent(within time.Duration, check func(codersdk.WorkspaceAgent) error) codersdk.WorkspaceAgent {
	s.t.Helper()
	var agent codersdk.WorkspaceAgent
	Eventually(s.t, within, func() error {
		agent = s.Agent()
		return check(agent)
	})
	return agent
}

// WaitState waits until the agent is connected and in this lifecycle state.
func (s *Site) WaitState(state codersdk.WorkspaceAgentLifecycle) codersdk.WorkspaceAgent {
	s.t.Helper()
	return s.WaitAgent(Patience, func(agent codersdk.WorkspaceAgent) error {
		return In(agent, codersdk.WorkspaceAgentConnected, state)
	})
}

// WaitStatus waits until the connection has this status.
func (s *Site) WaitStatus(status codersdk.WorkspaceAgentStatus, within time.Duration) codersdk.WorkspaceAgent {
	s.t.Helper()
	return s.WaitAgent(within, func(agent codersdk.WorkspaceAgent) error {
		return In(agent, status, agent.LifecycleState)
	})
}

// In says what is different when the agent is not in these two states.
func In(agent codersdk.WorkspaceAgent, status codersdk.WorkspaceAgentStatus, state codersdk.WorkspaceAgentLifecycle) error {
	if agent.Status == status && agent.LifecycleState == state {
		return nil
	}
	return fmt.Errorf("agent is %s/%s, not %s/%s", agent.Status, agent.LifecycleState, status, state)
}

// Dial opens an RPC connection with any token and query; it ends with the test.
func (s *Site) Dial(token string, query url.Values) (*agentrpc.Conn, error) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	conn, err := agentrpc.Dial(ctx, s.URL, token, query, http.DefaultTransport)
	if err == nil {
		s.t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// MustDial opens an RPC connection as the current release's agent does.
func (s *Site) MustDial() *agentrpc.Conn {
	s.t.Helper()
	conn, err := s.Dial(s.Token, agentrpc.Version("2.6"))
	if err != nil {
		s.t.Fatalf("dial RPC: %v", err)
	}
	return conn
}

// Status is the HTTP status in an error of the client library, 0 if there is none.
func Status(err error) int {
	var refused *codersdk.Error
	if errors.As(err, &refused) {
		return refused.StatusCode()
	}
	return 0
}

// Logs are the agent's stored log lines with an id above after.
func (s *Site) Logs(after int64) []codersdk.WorkspaceAgentLog {
	s.t.Helper()
	batches, closer, err := s.Client.WorkspaceAgentLogsAfter(Context(s.t, Patience), s.AgentID, after, false)
	if err != nil {
		s.t.Fatalf("get logs: %v", err)
	}
	defer closer.Close()
	return <-batches
}
