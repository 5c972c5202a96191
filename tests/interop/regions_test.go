package interop

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"

	tailnetproto "github.com/coder/coder/v2/tailnet/proto"

	"moorline.test/interop/internal/harness"
)

// startDerper runs a stock relay of the library that agents and clients use.
func startDerper(t *testing.T) *url.URL {
	t.Helper()
	relay := derp.NewServer(key.NewNode(), func(string, ...any) {})
	t.Cleanup(func() { _ = relay.Close() })
	mux := http.NewServeMux()
	mux.Handle("/derp", derphttp.Handler(relay))
	mux.HandleFunc("/derp/latency-check", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	require.NoError(t, err)
	return address
}

// Story 5: the relay map changes while people are connected, and once it cannot
// be read at all.
func TestRelayMapChangesUnderASession(t *testing.T) {
	t.Parallel()
	derper := startDerper(t)
	config := filepath.Join(t.TempDir(), "moorline.toml")
	write := func(text string) { require.NoError(t, os.WriteFile(config, []byte(text), 0o600)) }
	write("")
	site := harness.NewSiteOn(t, harness.RelayOnly, "", "--config", config)
	agent, alice := connected(t, site)
	shell := alice.Terminal("ssh", "dev")
	shell.Echo("before", harness.Patience)

	maps, err := site.MustDial().Tailnet.StreamDERPMaps(harness.Context(t, 5*time.Minute), &tailnetproto.StreamDERPMapsRequest{})
	require.NoError(t, err)
	pushed := make(chan int, 10)
	go func() {
		for {
			next, err := maps.Recv()
			if err != nil {
				return
			}
			pushed <- len(next.GetRegions())
		}
	}()
	awaitRegions := func(count int) {
		select {
		case got := <-pushed:
			require.Equal(t, count, got)
		case <-time.After(harness.Patience):
			require.Fail(t, "no map was pushed")
		}
	}
	awaitRegions(1)

	second := fmt.Sprintf("[[derp_region]]\nid = 1\ncode = \"near\"\nname = \"Nearby\"\n[[derp_region.node]]\nhost = %q\nport = %s\nforce_http = true\n",
		derper.Hostname(), derper.Port())
	write(second)
	site.Signal(syscall.SIGHUP)
	awaitRegions(2)
	shell.Echo("added", quickEcho)
	found := alice.CoderWith(harness.RunOptions{Within: 2 * time.Minute}, "netcheck")
	require.Zero(t, found.Code, found.Stderr)
	require.Contains(t, found.Stdout, "Nearby")

	before := len(site.Log())
	write("[[derp_region]\nthis is no TOML")
	site.Signal(syscall.SIGHUP)
	harness.Eventually(t, harness.Patience, func() error {
		if !strings.Contains(site.Log()[before:], config) {
			return fmt.Errorf("the server did not report the bad file")
		}
		return nil
	})
	shell.Echo("unreadable", quickEcho)
	require.Empty(t, pushed, "the last good map is kept")

	write("")
	site.Signal(syscall.SIGHUP)
	awaitRegions(1)
	shell.Echo("removed", resumeWithin)
	require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "anew"), "anew")
	require.Equal(t, 1, agent.Count(harness.LogDialing), "the agent's connection outlived all of this")
}
