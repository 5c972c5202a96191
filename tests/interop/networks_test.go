package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/coderd/healthcheck/derphealth"

	"moorline.test/interop/internal/harness"
)

const relayName = "Coder Embedded Relay"

// TestPathThroughEachNetwork runs every command that opens a tunnel in every network.
func TestPathThroughEachNetwork(t *testing.T) {
	t.Parallel()
	for _, network := range harness.Networks {
		t.Run(network.Name, func(t *testing.T) {
			t.Parallel()
			site := harness.NewSiteOn(t, network, "")
			_, alice := connected(t, site)

			require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "through"), "through")

			ping := alice.Coder("ping", "dev", "-n", "3", "--wait", "100ms")
			require.Zero(t, ping.Code, ping.Stderr)
			if network.Direct {
				require.Contains(t, ping.Stdout, "p2p via")
				require.Contains(t, ping.Stderr, "You are connected directly (p2p)")
			} else {
				require.NotContains(t, ping.Stdout, "p2p via")
				require.Contains(t, ping.Stdout, "proxied via DERP("+relayName+")")
				require.Contains(t, ping.Stderr, "administrator has blocked direct connections")
			}

			speed := alice.Coder("speedtest", "dev", "-t", "2s", "-o", "json")
			require.Zero(t, speed.Code, speed.Stderr)
			var report struct {
				Overall struct {
					Throughput float64 `json:"throughput_mbits"`
				} `json:"overall"`
			}
			require.NoError(t, json.Unmarshal([]byte(speed.Stdout), &report))
			t.Logf("speedtest, %s: %.0f Mbit/s", network.Name, report.Overall.Throughput)
			require.Greater(t, report.Overall.Throughput, 5.0)
		})
	}
}

// TestNetcheckFindsTheRelay needs no agent. Its pause is the client's own: it
// waits 30 s for the message that does not come.
func TestNetcheckFindsTheRelay(t *testing.T) {
	t.Parallel()
	for _, network := range []harness.Network{harness.RelayOnly, harness.WebSockets} {
		t.Run(network.Name, func(t *testing.T) {
			t.Parallel()
			site := harness.NewSiteOn(t, network, "")
			requireNetcheck(t, site.SignedIn(harness.Owner), network)
		})
	}
}

// requireNetcheck runs `coder netcheck` and looks at what it found of the relay.
// It also sends a message between two keys that it has just made, which this
// relay forwards for nobody, and so it calls the region unhealthy
// (coderd/healthcheck/derphealth of v2.24.0).
func requireNetcheck(t *testing.T, p *harness.Person, network harness.Network) {
	t.Helper()
	out := p.CoderWith(harness.RunOptions{Within: time.Minute}, "netcheck")
	require.Zero(t, out.Code, out.Stderr)
	var report struct {
		Derp struct {
			Regions map[string]struct {
				NodeReports []*derphealth.NodeReport `json:"node_reports"`
			} `json:"regions"`
			Netcheck struct {
				PreferredDERP int
				RegionLatency map[string]time.Duration
			} `json:"netcheck"`
		} `json:"derp"`
	}
	require.NoError(t, json.Unmarshal([]byte(out.Stdout), &report), out.Stdout)
	require.Contains(t, report.Derp.Regions, "999")
	require.Equal(t, 999, report.Derp.Netcheck.PreferredDERP)
	require.Positive(t, report.Derp.Netcheck.RegionLatency["999"])
	nodes := report.Derp.Regions["999"].NodeReports
	require.Len(t, nodes, 1)
	require.False(t, nodes[0].CanExchangeMessages)
	if network.Name != harness.WebSockets.Name {
		require.Contains(t, fmt.Sprint(nodes[0].ClientLogs), "DERP server returned status 101")
	}
}

// TestClientAloneMayInsistOnTheRelay uses the client's own switch while the
// server allows direct paths.
func TestClientAloneMayInsistOnTheRelay(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	alice.Env = append(alice.Env, "CODER_DISABLE_DIRECT_CONNECTIONS=true")
	ping := alice.Coder("ping", "dev", "-n", "2", "--wait", "100ms")
	require.Zero(t, ping.Code, ping.Stderr)
	require.Contains(t, ping.Stdout, "proxied via DERP("+relayName+")")
	require.NotContains(t, ping.Stdout, "p2p via")
	out := alice.Coder("ssh", "dev", "--", "echo", "through")
	require.Zero(t, out.Code)
	require.Contains(t, out.Stdout, "through")
	require.Contains(t, out.Stderr, "Direct connections disabled.")
}

// TestRelayFallsBackToWebSocketsBehindAProxy: a proxy that answers the relay's
// upgrade with a 4xx needs no setting, because clients then try a WebSocket.
func TestRelayFallsBackToWebSocketsBehindAProxy(t *testing.T) {
	t.Parallel()
	site := harness.NewSiteOn(t, harness.Behind(harness.MiddleboxOptions{OtherUpgrade: refuseUpgrade}), "")
	_, alice := connected(t, site)
	require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "through"), "through")
	require.GreaterOrEqual(t, site.Box.Refused(), int64(2), "agent and client tried the relay's own upgrade first")
}

// TestNetworkInfoFileTellsThePath checks the file that IDEs show the connection from.
func TestNetworkInfoFileTellsThePath(t *testing.T) {
	t.Parallel()
	for _, network := range harness.Networks {
		t.Run(network.Name, func(t *testing.T) {
			t.Parallel()
			site := harness.NewSiteOn(t, network, "")
			_, alice := connected(t, site)
			dir := filepath.Join(alice.Home, "net")
			require.NoError(t, os.Mkdir(dir, 0o700))
			session := alice.Start("ssh", "--stdio", "--usage-app=vscode", "--network-info-dir", dir,
				"--network-info-interval", "1s", "--ssh-host-prefix", "coder-vscode.rig--", "coder-vscode.rig--alice--dev.main")
			session.WaitFor("SSH-2.0-", harness.Patience)
			info := networkInfo(t, dir)
			require.Equal(t, network.Direct, info.P2P)
			if !network.Direct {
				require.Equal(t, relayName, info.PreferredDERP)
				require.Contains(t, info.DERPLatency, relayName)
			}
		})
	}
}
