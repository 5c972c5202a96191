package interop

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// relayedWithin is how long a session may stand still when its direct path stops to pass large packets: the clients
// trust a path for 6.5 s after its last answer.
const relayedWithin = 90 * time.Second

// Story 8: small packets pass between client and machine, large ones are lost without a word. The clients probe paths
// with packets of full size, so that they leave such a path for the relay. Terminals of the server never had another.
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
	shell := alice.Terminal("ssh", "dev")
	shell.Echo("wide", harness.Patience)
	terminal := openTerminal(t, site.Client, ptyOf(site))
	terminal.sum(1, 1)

	road.Narrow()
	// More than one packet, so that it cannot slip through.
	began := time.Now()
	shell.Type("head -c 3000 /dev/zero | tr '\\0' x; echo\n")
	shell.WaitFor(strings.Repeat("x", 3000), relayedWithin)
	t.Logf("the session went on after %v", time.Since(began))
	shell.Echo("narrow", quickEcho)
	terminal.requireBulk("bulk")

	// What is new takes the relay, and `coder ping` says so.
	ping := alice.Must("ping", "dev", "-n", "3", "--wait", "100ms")
	require.Contains(t, ping, "proxied via DERP("+relayName+")")
	require.NotContains(t, ping, "p2p via")
	sent := make([]byte, bulkBytes)
	_, _ = rand.Read(sent)
	sum := sha256.Sum256(sent)
	up := alice.CoderWith(harness.RunOptions{Stdin: string(sent), Within: time.Minute}, "ssh", "dev", "--", "tee got | sha256sum")
	require.Zero(t, up.Code, up.Stderr)
	require.Contains(t, up.Stdout, hex.EncodeToString(sum[:]))
	down := alice.CoderWith(harness.RunOptions{Within: time.Minute}, "ssh", "dev", "--", "cat got")
	require.Zero(t, down.Code, down.Stderr)
	require.True(t, down.Stdout == string(sent), "what comes back is what was sent")
	require.FileExists(t, filepath.Join(agent.Home, "got"))
}
