package interop

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

func TestListeningPortsAreTheAgentsOwn(t *testing.T) {
	t.Parallel()
	hidden, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer hidden.Close()
	site := harness.NewSite(t, fmt.Sprintf(`
[[workspace.agent.app]]
slug = "web"
url = "http://localhost:%d/"
`, hidden.Addr().(*net.TCPAddr).Port))
	ports := func() (codersdk.WorkspaceAgentListeningPortsResponse, error) {
		return site.Client.WorkspaceAgentListeningPorts(harness.Context(t, harness.Patience), site.AgentID)
	}
	_, err = ports()
	var refused *codersdk.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusBadRequest, refused.StatusCode())
	require.Contains(t, refused.Message, "connecting")

	// The command line says of an agent that is away that it has nothing to show, and shows the rest.
	alice := site.SignedIn(harness.Owner)
	began := time.Now()
	away := alice.Coder("show", "dev")
	require.Zero(t, away.Code)
	require.Less(t, time.Since(began), promptly)
	require.Contains(t, away.Stdout, "main (linux, amd64)")
	require.Contains(t, away.Stderr, "Failed to get listening ports for agent main")
	require.Contains(t, away.Stderr, "Failed to get devcontainers for agent main")

	site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	shown, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer shown.Close()
	harness.Eventually(t, harness.Patience, func() error {
		got, err := ports()
		if err != nil {
			return err
		}
		listed := map[uint16]codersdk.WorkspaceAgentListeningPort{}
		for _, port := range got.Ports {
			listed[port.Port] = port
		}
		if _, ok := listed[uint16(hidden.Addr().(*net.TCPAddr).Port)]; ok {
			return fmt.Errorf("the port of an app is listed")
		}
		port, ok := listed[uint16(shown.Addr().(*net.TCPAddr).Port)]
		if !ok || port.Network != "tcp" {
			return fmt.Errorf("%v is not listed as tcp", shown.Addr())
		}
		require.Equal(t, ownProcess(), port.ProcessName)
		return nil
	})

	// The command line shows them without a warning.
	out := alice.Must("show", "dev")
	require.Contains(t, out, strconv.Itoa(shown.Addr().(*net.TCPAddr).Port))
	require.NotContains(t, out, "listening ports")
}

// ownProcess is what the kernel calls the tests: the beginning of their file's name.
func ownProcess() string {
	name := filepath.Base(os.Args[0])
	return name[:min(len(name), 15)]
}

// listedPort is what an agent says of a listener's port.
func listedPort(t *testing.T, site *harness.Site, listener net.Listener) codersdk.WorkspaceAgentListeningPort {
	t.Helper()
	var found codersdk.WorkspaceAgentListeningPort
	harness.Eventually(t, harness.Patience, func() error {
		got, err := site.Client.WorkspaceAgentListeningPorts(harness.Context(t, harness.Patience), site.AgentID)
		if err != nil {
			return err
		}
		for _, port := range got.Ports {
			if int(port.Port) == listener.Addr().(*net.TCPAddr).Port {
				found = port
				return nil
			}
		}
		return fmt.Errorf("%v is not listed: %+v", listener.Addr(), got.Ports)
	})
	return found
}

// TestPortsOfOtherPeopleOfTheMachine: they are listed, but whose they are the agent cannot see.
func TestPortsOfOtherPeopleOfTheMachine(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	var options harness.AgentOptions
	want := ownProcess()
	if os.Geteuid() == 0 {
		// Only root can have an agent of somebody else; others see at least their own.
		options.UID, want = 65_534, ""
	}
	agent := site.StartAgent(options)
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	mine, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer mine.Close()
	require.Equal(t, want, listedPort(t, site, mine).ProcessName)
	require.NoError(t, agent.Alive())
}

// TestPortsOfASlowAgent freezes one: what it has just said is good for a moment, an answer after seconds is one, and
// none is a sentence.
func TestPortsOfASlowAgent(t *testing.T) {
	t.Parallel()
	site, agent := readySite(t, "")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	site.AddUser("root", true)
	other := site.UserClient(site.CreateToken("root"))
	listedPort(t, site, listener)
	ask := func(client *codersdk.Client) (codersdk.WorkspaceAgentListeningPortsResponse, time.Duration, error) {
		began := time.Now()
		got, err := client.WorkspaceAgentListeningPorts(harness.Context(t, 2*harness.Patience), site.AgentID)
		return got, time.Since(began), err
	}
	time.Sleep(1100 * time.Millisecond) // What was said before is forgotten.
	first, _, err := ask(site.Client)
	require.NoError(t, err)
	agent.Signal(syscall.SIGSTOP)
	again, took, err := ask(other)
	require.NoError(t, err)
	require.Less(t, took, 900*time.Millisecond, "the agent, which is frozen, was not asked again")
	require.Equal(t, first, again)

	time.Sleep(1100 * time.Millisecond)
	const frozen = 5 * time.Second
	time.AfterFunc(frozen, func() { agent.Signal(syscall.SIGCONT) })
	_, took, err = ask(site.Client)
	require.NoError(t, err, "late is not never")
	require.Greater(t, took, frozen-time.Second)

	time.Sleep(1100 * time.Millisecond)
	agent.Signal(syscall.SIGSTOP)
	time.Sleep(200 * time.Millisecond) // On a busy machine a signal takes its time, and the agent answers in between.
	_, took, err = ask(other)
	require.Equal(t, http.StatusInternalServerError, harness.Status(err), "%v", err)
	require.ErrorContains(t, err, "did not answer")
	require.Less(t, took, sentenceWithin)
	agent.Signal(syscall.SIGCONT)
	listedPort(t, site, listener)
}
