package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"

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
