package interop

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"

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
		return nil
	})

	// The command line shows them without a warning.
	alice := site.SignedIn(harness.Owner)
	out := alice.Must("show", "dev")
	require.Contains(t, out, strconv.Itoa(shown.Addr().(*net.TCPAddr).Port))
	require.NotContains(t, out, "listening ports")
}
