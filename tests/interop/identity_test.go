package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// sessionToken is a start script that writes down with which token programs on
// the machine act.
const sessionToken = `
[[workspace.agent.script]]
display_name = "Token"
script = "printenv CODER_AGENT_TOKEN > @SCRATCH@/token"
run_on_start = true
`

// clouds are machines that know nothing but the server's address.
var clouds = map[string]func(testing.TB) *harness.Cloud{
	"aws": harness.NewAWS, "azure": harness.NewAzure, "google": harness.NewGoogle,
}

func TestMachinesSignInByTheWordOfTheirCloud(t *testing.T) {
	t.Parallel()
	for name, start := range clouds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := harness.NewPluginSite(t, sessionToken)
			cloud := start(t)
			target := harness.Owner + "/" + harness.Workspace

			// The machine boots before anybody has declared it, and is refused for two reasons in turn.
			agent := site.StartAgent(harness.AgentOptions{Env: cloud.Env()})
			agent.WaitCount("identity was not accepted", 1, harness.Patience)
			cloud.Import(site.Server)
			agent.WaitCount("No agent is bound", 1, harness.Patience)
			site.Bind(target, cloud.Flag, cloud.ID)
			site.WaitState(codersdk.WorkspaceAgentLifecycleReady)

			harness.Eventually(t, harness.Patience, func() error {
				token, err := os.ReadFile(site.Scratch("token"))
				if err != nil {
					return err
				}
				if got := strings.TrimSpace(string(token)); got != site.Token {
					return fmt.Errorf("a session's token is %q", got)
				}
				return nil
			})
			require.NotContains(t, site.Log(), "two machines", "it is one")

			// It signs in anew before each connection, with the anchors that the file has kept.
			asked := cloud.Asked.Load()
			site.Kill()
			site.StartAgain()
			site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
			harness.Eventually(t, harness.Patience, func() error {
				if now := cloud.Asked.Load(); now <= asked {
					return fmt.Errorf("%d documents were asked for before, %d now", asked, now)
				}
				return nil
			})
			require.NoError(t, agent.Alive())
		})
	}
}

// step is a refusal that a machine meets, and what its operator does then.
type step struct {
	// agent and server are what their logs say; empty: nothing that matters.
	agent, server string
	mend          func(*harness.Site)
}

func TestARefusedMachineIsLetInOnceTheAnchorIsImported(t *testing.T) {
	t.Parallel()
	aws, azure, google := harness.NewAWS(t), harness.NewAzureBelow(t), harness.NewGoogle(t)
	between := func(until time.Duration, name string) func(*harness.Site) {
		return func(site *harness.Site) {
			azure.ImportText(site.Server, azure.Between(time.Now().Add(until)), "--role", "azure-intermediate", "--name", name)
		}
	}
	const day = 24 * time.Hour
	for name, one := range map[string]struct {
		cloud    *harness.Cloud
		provider string
		steps    []step
	}{
		"a new region of Amazon's": {aws, "", []step{
			{agent: "of region eu-test-1", mend: func(site *harness.Site) { aws.Import(site.Server) }},
		}},
		"a new intermediate certificate of Azure's, and one that has ended": {azure, "", []step{
			{agent: "does not lead to a trusted root", server: "Test issuing CA 07", mend: func(site *harness.Site) { azure.Import(site.Server) }},
			{agent: "an intermediate certificate may be missing", server: "Test issuing CA 07", mend: between(-10*day, "old")},
			{agent: "ended 10 days ago", server: "Test issuing CA 07", mend: between(day, "new")},
		}},
		"Google cannot be reached": {google, fmt.Sprintf("keys_url = %q", "http://127.0.0.1:"+harness.FreePort(t)+"/certs"), []step{
			{agent: "Google's keys cannot be had", mend: func(site *harness.Site) { google.Import(site.Server) }},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kind, _, _ := strings.Cut(one.cloud.Auth, "-")
			site := harness.NewConfiguredSite(t, fmt.Sprintf("[[identity]]\ntype = %q\n%s\n", kind, one.provider), sessionToken)
			site.Bind(harness.Owner+"/"+harness.Workspace, one.cloud.Flag, one.cloud.ID)
			agent := site.StartAgent(harness.AgentOptions{Env: one.cloud.Env()})
			for _, step := range one.steps {
				agent.WaitCount(step.agent, agent.Count(step.agent)+1, harness.Patience)
				require.Contains(t, site.Log(), step.server)
				require.NotEqual(t, codersdk.WorkspaceAgentConnected, site.Agent().Status)
				step.mend(site)
			}
			site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
			require.NoError(t, agent.Alive())
		})
	}
}
