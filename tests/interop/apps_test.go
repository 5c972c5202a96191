package interop

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

func TestAppHealthFollowsTheApp(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(app.Close)

	site := harness.NewSite(t, fmt.Sprintf(`
[[workspace.agent.app]]
slug = "web"
display_name = "Web"
url = %q
healthcheck_url = %q
healthcheck_interval = 1
healthcheck_threshold = 1
order = 2

[[workspace.agent.app]]
slug = "plain"
display_name = "Plain"
url = %q
order = 1

[[workspace.agent.app]]
slug = "shell"
display_name = "Shell"
command = "htop"
icon = "/icon/terminal.svg"
hidden = true
order = 3

[[workspace.agent.app]]
slug = "ide"
display_name = "IDE"
url = "vscode://open"
external = true
order = 4
`, app.URL, app.URL+"/health", app.URL))

	apps := site.Agent().Apps
	slugs := []string{}
	for _, app := range apps {
		slugs = append(slugs, app.Slug)
	}
	require.Equal(t, []string{"plain", "web", "shell", "ide"}, slugs, "display order")
	require.Equal(t, codersdk.WorkspaceAppHealthDisabled, apps[0].Health)
	require.Equal(t, codersdk.WorkspaceAppHealthInitializing, apps[1].Health)
	require.Equal(t, codersdk.Healthcheck{URL: app.URL + "/health", Interval: 1, Threshold: 1}, apps[1].Healthcheck)
	require.Equal(t, codersdk.WorkspaceAppSharingLevelOwner, apps[1].SharingLevel)
	require.Equal(t, "htop", apps[2].Command)
	require.True(t, apps[2].Hidden)
	require.True(t, apps[3].External)

	// Three of the apps have no health check: the agent crashes when the manifest
	// leaves that message out.
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	waitHealth(t, site, codersdk.WorkspaceAppHealthHealthy)
	broken.Store(true)
	waitHealth(t, site, codersdk.WorkspaceAppHealthUnhealthy)
	broken.Store(false)
	waitHealth(t, site, codersdk.WorkspaceAppHealthHealthy)
	require.Equal(t, codersdk.WorkspaceAppHealthDisabled, site.Agent().Apps[0].Health)
	require.NoError(t, agent.Alive())
	require.Equal(t, 1, agent.Count(harness.LogDialing))
}

func waitHealth(t *testing.T, site *harness.Site, want codersdk.WorkspaceAppHealth) {
	t.Helper()
	site.WaitAgent(harness.Patience, func(agent codersdk.WorkspaceAgent) error {
		if got := agent.Apps[1].Health; got != want {
			return fmt.Errorf("app is %s, not %s", got, want)
		}
		return nil
	})
}
