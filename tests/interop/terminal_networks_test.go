package interop

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/harness"
)

const (
	// firstKey and lateKey bound the echo of the first key after a pause and of 99 of 100 keys. On a quiet machine
	// these are a few milliseconds and about one; here seven other tests have the same cores.
	firstKey = time.Second
	lateKey  = 300 * time.Millisecond
	// bulkBytes pass through a terminal at once, a third more as text.
	bulkBytes = 5 << 20
)

// requireBulk makes the shell print random bytes as text, and compares what comes with what the shell says of them.
func (s *terminal) requireBulk(name string) {
	s.t.Helper()
	s.typing(fmt.Sprintf("head -c %d /dev/urandom >%s; echo =be''gin=; base64 %s; echo =e''nd=; sha256sum <%s; rm %s\r",
		bulkBytes, name, name, name, name))
	text := s.waitWithin("  -", time.Minute)
	_, text, _ = strings.Cut(text, "=begin=\r\n")
	coded, text, _ := strings.Cut(text, "=end=\r\n")
	sent, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(coded, "\r\n", ""))
	require.NoError(s.t, err)
	require.Len(s.t, sent, bulkBytes)
	sum := sha256.Sum256(sent)
	require.Equal(s.t, hex.EncodeToString(sum[:]), text[:2*sha256.Size])
}

// TestTerminalThroughEachNetwork has terminals in every network, the people's own connections included: they are left
// alone for longer than a proxy lets a connection be silent, and longer than a tunnel's keys live when soaking (story
// 7: the first key lags), typed into, filled, left and found again.
func TestTerminalThroughEachNetwork(t *testing.T) {
	t.Parallel()
	type place struct {
		site   *harness.Site
		client *codersdk.Client
		opts   workspacesdk.WorkspaceAgentReconnectingPTYOpts
		shell  *terminal
		typed  *terminal
	}
	places := map[string]*place{}
	for _, network := range harness.Networks {
		site := harness.NewSiteOn(t, network, "")
		site.StartAgent(harness.AgentOptions{})
		site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
		client := codersdk.New(site.Front)
		client.SetSessionToken(site.Client.SessionToken())
		at := &place{site: site, client: client, opts: ptyOf(site)}
		at.shell = openTerminal(t, client, at.opts)
		at.shell.typing("kept=yes\r")
		at.shell.sum(1, 1)
		only := at.opts
		only.Reconnect, only.Command = uuid.New(), "cat"
		at.typed = openTerminal(t, client, only)
		at.typed.keys(1)
		places[network.Name] = at
	}
	time.Sleep(soak(harness.IdleCut + 10*time.Second))
	for name, at := range places {
		first := at.typed.keys(1)[0]
		all := at.typed.keys(100)
		t.Logf("%s: echo of the first key %v, then p50 %v, p99 %v", name, first, all[50], all[98])
		require.Less(t, first, firstKey)
		require.Less(t, all[98], lateKey)

		at.shell.sum(2, 2)
		at.shell.requireBulk("bulk")
		at.shell.close()
		again := openTerminal(t, at.client, at.opts)
		again.typing("echo kept=$kept.\r")
		again.waitFor("kept=yes.")
		if at.site.Box != nil {
			for _, path := range at.site.Box.Cut() {
				require.NotRegexp(t, "/pty$|^/derp$|/rpc$", path, "the server's signs of life are too rare")
			}
		}
	}
}
