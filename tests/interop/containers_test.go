package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/websocket"

	"moorline.test/interop/internal/harness"
)

const (
	localFolder = "devcontainer.local_folder"
	configFile  = "devcontainer.config_file"
)

// withContainers is a site whose machine has a development container and another one.
func withContainers(t *testing.T) (*harness.Site, *harness.Docker) {
	t.Helper()
	site := harness.NewSite(t, "")
	docker := site.NewDocker()
	docker.Container("c0ffee", "web", webLabels(site))
	docker.Container("dbdbdb", "db", map[string]string{"role": "database"})
	site.StartAgent(harness.AgentOptions{Env: docker.Env()})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	// The agent looks for the first time some time after it says that it is ready.
	harness.Eventually(t, harness.Patience, func() error {
		if all, err := containers(t, site, nil); err != nil || len(all.Containers) != 2 {
			return fmt.Errorf("the agent has not found both: %+v, %v", all, err)
		}
		return nil
	})
	return site, docker
}

func webLabels(site *harness.Site) map[string]string {
	return map[string]string{
		localFolder: site.Scratch("web"), configFile: site.Scratch("web/devcontainer.json"),
		"devcontainer.metadata": `[{"remoteEnv":{"GREETING":"hello from inside"}}]`,
	}
}

func containers(t *testing.T, site *harness.Site, labels map[string]string) (codersdk.WorkspaceAgentListContainersResponse, error) {
	t.Helper()
	return site.Client.WorkspaceAgentListContainers(harness.Context(t, harness.Patience), site.AgentID, labels)
}

func TestContainersAreListedByTheirLabels(t *testing.T) {
	t.Parallel()
	site, docker := withContainers(t)
	names := func(labels map[string]string) string {
		got, err := containers(t, site, labels)
		require.NoError(t, err)
		var all []string
		for _, one := range got.Containers {
			all = append(all, one.FriendlyName)
		}
		require.Len(t, got.Devcontainers, 1, "these are not filtered")
		return strings.Join(all, " ")
	}
	require.Equal(t, "web db", names(nil))
	require.Equal(t, "web", names(map[string]string{localFolder: "", configFile: ""}))
	require.Equal(t, "db", names(map[string]string{"role": "database"}))
	require.Empty(t, names(map[string]string{"role": "databas"}))
	require.Empty(t, names(map[string]string{"role": "", localFolder: ""}))

	got, err := containers(t, site, map[string]string{"role": "database"})
	require.NoError(t, err)
	db := got.Containers[0]
	require.Equal(t, "dbdbdb", db.ID)
	require.Equal(t, "example/db", db.Image)
	require.True(t, db.Running)
	require.Equal(t, map[string]string{"/srv/db": "/data"}, db.Volumes)
	require.Equal(t, []codersdk.WorkspaceAgentContainerPort{{Port: 80, Network: "tcp", HostIP: "127.0.0.1", HostPort: 8080}}, db.Ports)
	require.Contains(t, strings.Join(got.Warnings, " "), "8080", "both have that port, and the agent's warning is passed on")

	alice := site.SignedIn(harness.Owner)
	shown := alice.Coder("show", "dev")
	require.Zero(t, shown.Code, shown.Stderr)
	require.Contains(t, shown.Stdout, "web")
	require.Contains(t, shown.Stdout, "running")
	require.NotContains(t, shown.Stdout, "example/db", "it is no development container")
	require.Empty(t, shown.Stderr)

	// What the agent cannot tell comes with its own words.
	docker.Break()
	harness.Eventually(t, harness.Patience, func() error {
		_, err := containers(t, site, nil)
		if harness.Status(err) != http.StatusInternalServerError {
			return fmt.Errorf("%v", err)
		}
		require.ErrorContains(t, err, "Cannot connect to the Docker daemon")
		return nil
	})
	shown = alice.Coder("show", "dev")
	require.Zero(t, shown.Code)
	require.Contains(t, shown.Stderr, "Cannot connect to the Docker daemon")
}

func TestContainersAreWatchedWhileOneIsMadeAnew(t *testing.T) {
	t.Parallel()
	site, docker := withContainers(t)
	address := strings.Replace(site.URL.String(), "http", "ws", 1) + fmt.Sprintf("/api/v2/workspaceagents/%s/containers/watch", site.AgentID)
	conn, _, err := websocket.Dial(harness.Context(t, harness.Patience), address,
		&websocket.DialOptions{HTTPHeader: http.Header{codersdk.SessionTokenHeader: {site.Client.SessionToken()}}})
	require.NoError(t, err)
	defer conn.CloseNow()
	next := func() (told codersdk.WorkspaceAgentListContainersResponse) {
		kind, message, err := conn.Read(harness.Context(t, harness.Patience))
		require.NoError(t, err)
		require.Equal(t, websocket.MessageText, kind)
		require.NoError(t, json.Unmarshal(message, &told))
		require.Len(t, told.Devcontainers, 1)
		return told
	}
	first := next()
	require.Len(t, first.Containers, 2)
	web := first.Devcontainers[0]
	require.Equal(t, codersdk.WorkspaceAgentDevcontainerStatusRunning, web.Status)

	recreate := func(id string) (codersdk.Response, error) {
		return site.Client.WorkspaceAgentRecreateDevcontainer(harness.Context(t, harness.Patience), site.AgentID, id)
	}
	docker.Next("facade", "web2", webLabels(site))
	said, err := recreate(web.ID.String())
	require.NoError(t, err)
	require.Equal(t, "Devcontainer recreation initiated", said.Message)
	_, err = recreate(web.ID.String())
	require.Equal(t, http.StatusConflict, harness.Status(err), "%v", err)
	_, err = recreate(uuid.NewString())
	require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)
	_, err = recreate("..")
	require.Equal(t, http.StatusNotFound, harness.Status(err), "%v", err)

	for told := next(); ; told = next() {
		if told.Devcontainers[0].Status == codersdk.WorkspaceAgentDevcontainerStatusStarting {
			break
		}
	}
	docker.Go()
	for told := next(); ; told = next() {
		if one := told.Devcontainers[0]; one.Status == codersdk.WorkspaceAgentDevcontainerStatusRunning {
			require.Equal(t, "facade", one.Container.ID)
			require.Equal(t, web.ID, one.ID)
			require.Len(t, told.Containers, 1)
			break
		}
	}
	// Who may not see the agent any more sees no containers either.
	site.SuspendUser(harness.Owner)
	for err == nil || websocket.CloseStatus(err) == -1 {
		_, _, err = conn.Read(harness.Context(t, harness.Patience))
		require.NotErrorIs(t, err, http.ErrHandlerTimeout)
	}
}

func TestATerminalInAContainer(t *testing.T) {
	t.Parallel()
	site, docker := withContainers(t)
	opts := ptyOf(site)
	opts.Container = "c0ffee"
	shell := openTerminal(t, site.Client, opts)
	shell.typing("echo in=$INSIDE=$INSIDE_AS=$GREETING=$PWD=\r")
	shell.waitFor("in=c0ffee=dweller=hello from inside=/=")

	opts = ptyOf(site)
	opts.Container, opts.ContainerUser, opts.BackendType = "dbdbdb", "guest", "screen"
	shell = openTerminal(t, site.Client, opts)
	shell.typing("echo in=$INSIDE=$INSIDE_AS=$PWD=\r")
	shell.waitFor("in=dbdbdb=guest=/tmp=")

	// One that is not there ends the terminal.
	opts = ptyOf(site)
	opts.Container = "none"
	require.Error(t, openTerminal(t, site.Client, opts).ended())
	require.Contains(t, docker.Calls(), "exec --interactive none whoami")

	// The command line finds it by its name.
	alice := site.SignedIn(harness.Owner)
	out := alice.Coder("exp", "rpty", "-c", "web", "dev", "echo", "in=$INSIDE=")
	require.Zero(t, out.Code, out.Stderr)
	require.Contains(t, out.Stdout, "in=c0ffee=")
	require.Contains(t, alice.Refused("exp", "rpty", "-c", "none", "dev", "true"), `container "none" not found`)
}

// TestContainersOfAnAgentWithoutThem: a machine may say that they are nobody's business.
func TestContainersOfAnAgentWithoutThem(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.StartAgent(harness.AgentOptions{Env: []string{"CODER_AGENT_DEVCONTAINERS_ENABLE=false"}})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	_, err := containers(t, site, nil)
	require.Equal(t, http.StatusForbidden, harness.Status(err), "%v", err)
	_, err = site.Client.WorkspaceAgentRecreateDevcontainer(harness.Context(t, harness.Patience), site.AgentID, uuid.NewString())
	require.Contains(t, []int{http.StatusNotFound, http.StatusForbidden}, harness.Status(err), "%v", err)
}
