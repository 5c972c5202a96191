package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/harness"
)

const (
	crowdAgents  = 500
	crowdClients = 100
	// crowdBack is generous: the test shares two cores with seven others and with
	// the simulator itself. The benchmark has the real figure.
	crowdBack = 30 * time.Second
	// crowdMemory bounds the server, whatever build it is.
	crowdMemory = 400 << 20
)

// Story 30: 500 agents and 100 clients come back in the same second, because all
// connections broke at once.
func TestCrowdComesBackInTheSameSecond(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	tokens, clients := declareCrowd(t, site)
	crowd := site.StartCrowd(tokens, clients)
	crowd.WaitFor(fmt.Sprintf("%d agents connected, %d clients", crowdAgents, crowdClients), 2*time.Minute)
	// The simulator counts a client once its agent has answered it.
	require.EqualValues(t, crowdAgents, site.Metric("moorline_agent_connections"))
	require.EqualValues(t, crowdClients, site.Metric("moorline_client_connections"))
	// This one is looked up now and then, not counted along.
	harness.Eventually(t, harness.Patience, func() error {
		if tunnels := site.Metric("moorline_tailnet_tunnels"); tunnels != crowdClients {
			return fmt.Errorf("%v tunnels are known", tunnels)
		}
		return nil
	})
	crowd.Type("drop\n")
	require.Zero(t, crowd.Wait(2*time.Minute), crowd.Output())

	var result struct {
		Connected  int
		Failures   int
		FirstError string `json:"first_error"`
		Recoveries []struct {
			Lost    int
			Seconds float64
		}
	}
	output := crowd.Output()
	require.NoError(t, json.Unmarshal([]byte(output[strings.Index(output, "{"):]), &result))
	require.Equal(t, crowdAgents+crowdClients, result.Connected)
	require.Len(t, result.Recoveries, 1)
	require.Equal(t, crowdAgents+crowdClients, result.Recoveries[0].Lost)
	t.Logf("all back after %.2f s, %d attempts failed (%s)", result.Recoveries[0].Seconds, result.Failures, result.FirstError)
	require.Less(t, result.Recoveries[0].Seconds, crowdBack.Seconds())
	require.Less(t, site.Memory(), int64(crowdMemory))
	require.NotContains(t, site.Log(), "panicked")
	// Nothing is left of those who are gone.
	harness.Eventually(t, harness.Patience, func() error {
		agents, clients := site.Metric("moorline_agent_connections"), site.Metric("moorline_client_connections")
		if agents+clients > 0 {
			return fmt.Errorf("%v agents and %v clients are still counted", agents, clients)
		}
		return nil
	})
}

// declareCrowd makes the workspaces and writes the simulator's two files.
func declareCrowd(t *testing.T, site *harness.Site) (tokens, clients string) {
	t.Helper()
	var toml, agentLines, clientLines strings.Builder
	for n := range crowdAgents {
		fmt.Fprintf(&toml, "[[workspace]]\nowner = %q\nname = \"w%d\"\n[[workspace.agent]]\nname = \"main\"\nos = \"linux\"\narch = \"amd64\"\n", harness.Owner, n)
	}
	applied := site.Apply(toml.String())
	require.Len(t, applied.Workspaces, crowdAgents)
	ctx := harness.Context(t, time.Minute)
	for n, workspace := range applied.Workspaces {
		agent := workspace.Agents[0]
		fmt.Fprintln(&agentLines, agent.Token)
		if n < crowdClients {
			key, err := site.Client.CreateToken(ctx, codersdk.Me, codersdk.CreateTokenRequest{TokenName: fmt.Sprintf("c%d", n), Lifetime: time.Hour})
			require.NoError(t, err)
			fmt.Fprintln(&clientLines, key.Key, agent.ID)
		}
	}
	tokens, clients = filepath.Join(site.Dir, "tokens"), filepath.Join(site.Dir, "clients")
	require.NoError(t, os.WriteFile(tokens, []byte(agentLines.String()), 0o600))
	require.NoError(t, os.WriteFile(clients, []byte(clientLines.String()), 0o600))
	return tokens, clients
}

// TestACrowdOfTerminals opens and closes 200 terminals of 20 agents in the same second, again and again, and looks at
// what the server keeps of it.
func TestACrowdOfTerminals(t *testing.T) {
	t.Parallel()
	const (
		machines = 20
		each     = 10
		rounds   = 5
		// allowed is for all 200 at once, and for what an allocator does not give back.
		allowed = 48 << 20
	)
	site := harness.NewSite(t, "")
	agents := []uuid.UUID{}
	for n := range machines {
		added := site.AddWorkspace(harness.Owner, fmt.Sprintf("w%d", n)).Agents[0]
		site.StartAgent(harness.AgentOptions{Token: added.Token})
		agents = append(agents, added.ID)
	}
	for _, id := range agents {
		harness.Eventually(t, 2*harness.Patience, func() error {
			agent, err := site.Client.WorkspaceAgent(harness.Context(t, harness.Patience), id)
			if err != nil {
				return err
			}
			return harness.In(agent, codersdk.WorkspaceAgentConnected, codersdk.WorkspaceAgentLifecycleReady)
		})
	}
	threads, memory, kept := site.Threads(), site.Memory(), int64(0)
	for round := range rounds {
		var all errgroup.Group
		began := time.Now()
		shells := make([]*terminal, machines*each)
		for n := range shells {
			all.Go(func() error {
				conn, err := workspacesdk.New(site.Client).AgentReconnectingPTY(context.Background(), workspacesdk.WorkspaceAgentReconnectingPTYOpts{
					AgentID: agents[n%machines], Reconnect: uuid.New(), Width: 80, Height: 24, BackendType: "buffered", Command: "cat",
				})
				if err != nil {
					return err
				}
				shells[n] = readTerminal(t, conn)
				_, err = fmt.Fprintf(conn, `{"data":"crowd-%d-%d\r"}`, round, n)
				return err
			})
		}
		require.NoError(t, all.Wait())
		opened := time.Since(began)
		for n, shell := range shells {
			shell.waitFor(fmt.Sprintf("crowd-%d-%d\r\ncrowd-%d-%d", round, n, round, n))
		}
		t.Logf("all open after %v, all have answered after %v; %d MiB more", opened, time.Since(began), (site.Memory()-memory)>>20)
		require.EqualValues(t, machines*each, site.Metric("moorline_terminals"))
		require.Equal(t, threads, site.Threads(), "no terminal has a thread")
		require.Less(t, site.Memory()-memory, int64(allowed))
		for _, shell := range shells {
			shell.close()
		}
		harness.Eventually(t, harness.Patience, func() error {
			if open := site.Metric("moorline_terminals"); open != 0 {
				return fmt.Errorf("%v terminals are still open", open)
			}
			return nil
		})
		// By then the allocator has what it wants.
		if round == 1 {
			kept = site.Memory()
		}
	}
	require.Less(t, site.Memory()-kept, int64(8<<20), "each crowd leaves something behind")
	require.Equal(t, threads, site.Threads())
	require.NotContains(t, site.Log(), "panicked")
}
