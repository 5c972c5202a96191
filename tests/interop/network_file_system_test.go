package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// Story 25: the file lies on a network file system. The kernel lets tests have one of them without a second machine:
// FUSE, behind which sshfs and its like are. The others are told apart by the same number of the same call.
func TestAFileOnANetworkFileSystemIsRefused(t *testing.T) {
	t.Parallel()
	if !harness.Inside(t) {
		return
	}
	require.NoError(t, exec.Command("ip", "link", "set", "lo", "up").Run())
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("not tried: the kernel has no FUSE for this test: %v", err)
	}
	require.NoError(t, fuse.Close())
	site := harness.NewSite(t, "")
	behind, mounted := filepath.Join(site.Dir, "behind"), filepath.Join(site.Dir, "far")
	require.NoError(t, os.Mkdir(behind, 0o700))
	require.NoError(t, os.Mkdir(mounted, 0o700))
	out, err := exec.Command("bindfs", behind, mounted).CombinedOutput()
	require.NoError(t, err, string(out))
	t.Cleanup(func() { _ = exec.Command("umount", "--lazy", mounted).Run() })

	file := filepath.Join(mounted, "m.db")
	said := site.Refuses(file)
	require.Contains(t, said, "it lies on a network file system (FUSE)")
	require.Contains(t, said, "allow_network_file_system")
	left, err := os.ReadDir(behind)
	require.NoError(t, err)
	require.Empty(t, left, "nothing was made there")
	// By another name it lies there, too.
	link := filepath.Join(site.Dir, "link.db")
	require.NoError(t, os.WriteFile(filepath.Join(behind, "true.db"), nil, 0o600))
	require.NoError(t, os.Symlink(filepath.Join(mounted, "true.db"), link))
	require.Contains(t, site.Refuses(link), "network file system (FUSE)")

	// Who knows better may say so, and everything is where it was.
	site.MoveTo(mounted, "--allow-network-file-system")
	require.FileExists(t, filepath.Join(behind, "m.db"))
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	site.Kill()
	site.StartAgain()
	site.WaitStatus(codersdk.WorkspaceAgentConnected, harness.Patience)
	require.NoError(t, agent.Alive())
}
