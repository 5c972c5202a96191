package interop

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorline.test/interop/internal/harness"
)

// The log tells who reached which machine, from where, by what and how it ended.
func TestTheConnectionLogTellsWhoWasThere(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	_, port, err := net.SplitHostPort(echoServer(t))
	require.NoError(t, err)

	alice.Must("ssh", "dev", "--", "true")
	requireEntry(t, site, func(c harness.Connection) bool {
		return c.By == "ssh" && c.KnownFrom == "agent" && c.EndedAt != nil && c.ExitCode != nil && *c.ExitCode == 0
	})
	require.Equal(t, 1, alice.Coder("ssh", "dev", "--", "sh", "-c", "'exit 7'").Code)
	requireEntry(t, site, func(c harness.Connection) bool { return c.ExitCode != nil && *c.ExitCode == 7 })
	alice.Must("ssh", "-e", "CODER_SSH_SESSION_TYPE=vscode", "--usage-app", "vscode", "dev", "--", "true")
	requireEntry(t, site, func(c harness.Connection) bool { return c.By == "vscode" })

	local := harness.FreePort(t)
	forward := alice.Start("port-forward", "dev", "--tcp", local+":"+port)
	forward.WaitFor("Ready!", harness.Patience)
	requireEcho(t, "127.0.0.1:"+local)
	isForward := func(c harness.Connection) bool { return c.By == "port-forward" && c.KnownFrom == "client" }
	requireEntry(t, site, func(c harness.Connection) bool { return isForward(c) && c.EndedAt == nil })
	forward.Signal(syscall.SIGINT)
	require.Zero(t, forward.Wait(harness.Patience))
	requireEntry(t, site, func(c harness.Connection) bool { return isForward(c) && c.End == "closed" })

	alice.Must("ping", "dev", "-n", "1")
	requireEntry(t, site, func(c harness.Connection) bool { return c.By == "ping" && c.EndedAt != nil })

	for _, entry := range site.Connections() {
		require.Equal(t, harness.Owner, entry.User, "%+v", entry)
		require.Equal(t, "127.0.0.1", entry.IP, "%+v", entry)
		require.Equal(t, "dev", entry.Workspace)
	}
	require.Len(t, site.Connections(), 5, "a tunnel with a session is no entry of its own")
}

// A session that outlives the server goes on in its line of the log.
func TestTheConnectionLogSurvivesAKill(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	session := alice.Terminal("ssh", "dev")
	session.Echo("before", quickEcho)
	open := func(c harness.Connection) bool { return c.By == "ssh" && c.User == harness.Owner && c.EndedAt == nil }
	requireEntry(t, site, open)
	site.Kill()
	site.StartAgain()
	session.Echo("after", resumeWithin)
	requireEntry(t, site, open)
	session.Type("exit\n")
	require.Zero(t, session.Wait(harness.Patience))
	requireEntry(t, site, func(c harness.Connection) bool { return c.By == "ssh" && c.EndedAt != nil })
	require.Len(t, site.Connections(), 1)
}

func requireEntry(t *testing.T, site *harness.Site, fits func(harness.Connection) bool) {
	t.Helper()
	harness.Eventually(t, time.Minute, func() error {
		entries := site.Connections()
		for _, entry := range entries {
			if fits(entry) {
				return nil
			}
		}
		return fmt.Errorf("the log has no such entry: %+v", entries)
	})
}
