package interop

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// Story 8: small packets pass between client and machine, large ones are lost without a word. The clients probe paths
// with packets of full size (disco/disco.go of their tailscale), so that such a path is never taken and the relay carries
// all. Terminals of the server never had another way. A session that is open at the moment when its path becomes narrow
// may end: the agent gives up its TCP after some 6 s, about when the client gives up the path.
func TestDataPassesWhereLargePacketsAreLost(t *testing.T) {
	t.Parallel()
	if !harness.Inside(t) {
		return
	}
	road := harness.NewRoad(t)
	site := harness.NewSiteOn(t, road.Network, "")
	agent := site.StartAgent(harness.AgentOptions{Under: road.Machine})
	alice := site.Person(harness.Owner)
	alice.Under = road.Client
	alice.SignIn()
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	require.Contains(t, alice.Must("ping", "dev", "-n", "2", "--wait", "100ms"), "p2p via 10.91.0.3:")
	terminal := openTerminal(t, site.Client, ptyOf(site))
	terminal.sum(1, 1)

	road.Narrow()
	terminal.requireBulk("bulk")

	// The command line takes the relay now, and `coder ping` says so.
	ping := alice.Must("ping", "dev", "-n", "3", "--wait", "100ms")
	require.Contains(t, ping, "proxied via DERP("+relayName+")")
	require.NotContains(t, ping, "p2p via")
	within := harness.RunOptions{Within: time.Minute}
	alice.ConfigSSH()
	big := filepath.Join(alice.Home, "big")
	sum := randomFile(t, big, bulkBytes)
	up := alice.OpenSSH(within, "scp", big, "coder.dev:up")
	require.Zero(t, up.Code, up.Stderr)
	require.Equal(t, sum, checksum(t, filepath.Join(agent.Home, "up")))
	down := alice.CoderWith(within, "ssh", "dev", "--", "base64 up")
	require.Zero(t, down.Code, down.Stderr)
	got, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(down.Stdout, "\r\n", ""))
	require.NoError(t, err)
	require.Equal(t, sum, fmt.Sprintf("%x", sha256.Sum256(got)))
}
