package interop

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/harness"
)

// TestTerminalsLiveLong keeps a quiet and a busy terminal open over everything that happens to machines and servers:
// half an hour, with several rekeys of the tunnel, when soaking, and else once round. One-way silence would show as
// a sum that does not come.
func TestTerminalsLiveLong(t *testing.T) {
	t.Parallel()
	site, agent := readySite(t, "")
	quiet, busy := ptyOf(site), ptyOf(site)
	shells := map[string]*terminal{}
	open := func() {
		for name, opts := range map[string]workspacesdk.WorkspaceAgentReconnectingPTYOpts{"quiet": quiet, "busy": busy} {
			if old := shells[name]; old != nil {
				old.close()
			}
			shells[name] = openTerminal(t, site.Client, opts)
		}
	}
	work := func(during time.Duration) {
		for end := time.Now().Add(during); time.Now().Before(end); {
			began := time.Now()
			shells["busy"].sum(int(time.Now().UnixMicro()%1e9), 1)
			require.Less(t, time.Since(began), quickEcho, "a key's echo is late")
			time.Sleep(500 * time.Millisecond)
		}
		began := time.Now()
		shells["quiet"].sum(int(time.Now().UnixMicro()%1e9), 2)
		require.Less(t, time.Since(began), quickEcho, "the first key after a pause is late (story 7)")
	}
	whole := 3 * soak(2*time.Second)
	phase := whole / 6
	open()

	work(2 * phase)
	// The machine sleeps; nothing is lost, and what is typed meanwhile comes then.
	agent.Signal(syscall.SIGSTOP)
	time.Sleep(min(phase/4, 20*time.Second))
	agent.Signal(syscall.SIGCONT)
	work(phase)
	// It sleeps for longer than anybody waits: the terminals end, and open again with the same shell.
	if whole > time.Minute {
		agent.Signal(syscall.SIGSTOP)
		time.Sleep(3 * time.Minute)
		agent.Signal(syscall.SIGCONT)
		require.Error(t, shells["quiet"].ended())
		site.WaitStatus(codersdk.WorkspaceAgentConnected, time.Minute)
		open()
		work(phase)
	}
	site.Kill()
	site.StartAgain()
	site.WaitStatus(codersdk.WorkspaceAgentConnected, time.Minute)
	open()
	work(phase)
	agent.Kill()
	site.WaitStatus(codersdk.WorkspaceAgentDisconnected, time.Minute)
	site.StartAgent(harness.AgentOptions{})
	site.WaitStatus(codersdk.WorkspaceAgentConnected, time.Minute)
	open()
	work(2 * phase)
}
