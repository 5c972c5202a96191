package interop

import (
	"bufio"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

func TestReinitStreamOnlyPings(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	// The ping's period is 15 s; the rest is for a busy machine.
	ctx := harness.Context(t, 25*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, site.Path("/api/v2/workspaceagents/me/reinit"), nil)
	require.NoError(t, err)
	req.AddCookie(&http.Cookie{Name: codersdk.SessionTokenCookie, Value: site.Token})
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Contains(t, res.Header.Get("Content-Type"), "text/event-stream")

	// The agent's reader stops at the first line that it does not expect.
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "event: ping\n", line)
}

func TestReinitWantsAToken(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, err := site.AgentClient("letmein").WaitForReinit(harness.Context(t, harness.Patience))
	require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)
}
