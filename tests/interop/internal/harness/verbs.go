package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// AgentToken is one agent as the verbs print it.
type AgentToken struct {
	ID    uuid.UUID `json:"id"`
	Name  string    `json:"name"`
	Token string    `json:"token"`
}

// WorkspaceTokens is the answer of `workspace add` and `workspace rotate-token`.
type WorkspaceTokens struct {
	WorkspaceID uuid.UUID    `json:"workspace_id"`
	Agents      []AgentToken `json:"agents"`
}

// Applied is the answer of `apply`.
type Applied struct {
	Users []struct {
		Name    string    `json:"name"`
		ID      uuid.UUID `json:"id"`
		Created bool      `json:"created"`
	} `json:"users"`
	Workspaces []struct {
		Owner   string       `json:"owner"`
		Name    string       `json:"name"`
		ID      uuid.UUID    `json:"id"`
		Created bool         `json:"created"`
		Agents  []AgentToken `json:"agents"`
	} `json:"workspaces"`
}

// AddUser makes a person who can sign in.
func (s *Server) AddUser(name string, admin bool) {
	s.t.Helper()
	args := []string{"user", "add", name, "--email", name + "@example.test", "--password-stdin", "--json"}
	if admin {
		args = append(args, "--admin")
	}
	s.verb("correct horse battery staple\n", args...)
}

// CreateToken makes a session token of this person.
func (s *Server) CreateToken(user string) string {
	s.t.Helper()
	var reply struct {
		ID    string `json:"id"`
		Token string `json:"token"`
	}
	s.verbJSON(&reply, "token", "create", "--user", user, "--json")
	if reply.Token == "" {
		s.t.Fatal("token create: the answer has no token")
	}
	return reply.Token
}

// RevokeToken takes one session token away, by its id.
func (s *Server) RevokeToken(token string) {
	s.t.Helper()
	id, _, _ := strings.Cut(token, "-")
	s.verb("", "token", "revoke", id)
}

// SuspendUser stops this person from signing in and ends their sessions.
func (s *Server) SuspendUser(name string) {
	s.t.Helper()
	s.verb("", "user", "suspend", name)
}

// ActivateUser lets a suspended person sign in again.
func (s *Server) ActivateUser(name string) {
	s.t.Helper()
	s.verb("", "user", "activate", name)
}

// Metric is a sample, named with its labels, as the server's own socket shows it;
// 0 while it has not counted anything.
func (s *Server) Metric(name string) float64 {
	s.t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.file+".admin.sock")
		},
	}
	client := &http.Client{Transport: transport, Timeout: Patience}
	reply, err := client.Get("http://admin/metrics")
	if err != nil {
		s.t.Fatalf("metrics: %v", err)
	}
	defer reply.Body.Close()
	lines := bufio.NewScanner(reply.Body)
	for lines.Scan() {
		text, isIt := strings.CutPrefix(lines.Text(), name+" ")
		if !isIt {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.t.Fatalf("metrics: %q: %v", lines.Text(), err)
		}
		return value
	}
	return 0
}

// AddWorkspace declares a workspace with the default agent.
func (s *Server) AddWorkspace(owner, name string) WorkspaceTokens {
	s.t.Helper()
	var reply WorkspaceTokens
	s.verbJSON(&reply, "workspace", "add", name, "--owner", owner, "--json")
	if len(reply.Agents) == 0 {
		s.t.Fatal("workspace add: the answer has no agents")
	}
	return reply
}

// RotateToken gives new tokens to the agents of target (`owner/name[.agent]`).
func (s *Server) RotateToken(target string) WorkspaceTokens {
	s.t.Helper()
	var reply WorkspaceTokens
	s.verbJSON(&reply, "workspace", "rotate-token", target, "--json")
	if len(reply.Agents) == 0 {
		s.t.Fatal("workspace rotate-token: the answer has no agents")
	}
	return reply
}

// Bind lets a cloud machine sign in as the agent of target; flag is
// `--aws-instance-id` or its like.
func (s *Server) Bind(target, flag, id string) {
	s.t.Helper()
	s.verb("", "workspace", "bind", target, flag, id)
}

// Trust imports a file of trust anchors; args are more flags.
func (s *Server) Trust(path string, args ...string) {
	s.t.Helper()
	s.verb("", append([]string{"trust", "import", path}, args...)...)
}

// AddProviders puts more text into the configuration of NewPluginSite and starts
// the server again.
func (s *Server) AddProviders(text string) {
	s.t.Helper()
	before, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.config, append(before, text...), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.Terminate()
	s.StartAgain()
}

// TestProvider runs `external-auth test`, which may fail; more are further
// arguments.
func (s *Server) TestProvider(id string, more ...string) Output {
	s.t.Helper()
	args := append([]string{"external-auth", "test", id, "--file", s.file, "--config", s.config}, more...)
	return run(s.t, s.env(), "", Patience, s.bin, args...)
}

// Apply declares what the TOML text says.
func (s *Server) Apply(toml string) Applied {
	s.t.Helper()
	path := filepath.Join(s.Dir, "apply.toml")
	if err := os.WriteFile(path, []byte(toml), 0o600); err != nil {
		s.t.Fatal(err)
	}
	var reply Applied
	s.verbJSON(&reply, "apply", path, "--json")
	return reply
}

// Connection is an entry of the connection log.
type Connection struct {
	Workspace string     `json:"workspace"`
	User      string     `json:"user"`
	IP        string     `json:"ip"`
	By        string     `json:"by"`
	KnownFrom string     `json:"known_from"`
	EndedAt   *time.Time `json:"ended_at"`
	End       string     `json:"end"`
	ExitCode  *int       `json:"exit_code"`
}

// Connections is the connection log, newest first.
func (s *Server) Connections() []Connection {
	s.t.Helper()
	var log struct {
		Connections []Connection `json:"connections"`
	}
	s.verbJSON(&log, "connections", "--json")
	return log.Connections
}

func (s *Server) verbJSON(into any, args ...string) {
	s.t.Helper()
	out := s.verb("", args...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		s.t.Fatalf("moorline %v printed no JSON: %v\n%s", args, err, out)
	}
}
