package interop

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"moorline.test/interop/internal/harness"
)

// netInfo is the file by which VS Code and JetBrains show a connection.
type netInfo struct {
	P2P           bool               `json:"p2p"`
	Latency       float64            `json:"latency"`
	PreferredDERP string             `json:"preferred_derp"`
	DERPLatency   map[string]float64 `json:"derp_latency"`
}

// networkInfo waits for the one file in this folder; it is rewritten all the time
// and first written before a path is known.
func networkInfo(t *testing.T, dir string) (info netInfo) {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("%d.json", os.Getpid()))
	harness.Eventually(t, harness.Patience, func() error {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(content, &info); err != nil {
			return err
		}
		if info.Latency <= 0 || info.PreferredDERP == "" {
			return fmt.Errorf("nothing was measured yet: %s", content)
		}
		return nil
	})
	return info
}

func TestVSCodeSSHOfOlderExtensions(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	dir := filepath.Join(alice.Home, "net")
	require.NoError(t, os.Mkdir(dir, 0o700))

	session := alice.Start("vscodessh", "--network-info-dir", dir, "--network-info-interval", "1s",
		"--session-token-file", filepath.Join(alice.Config, "session"),
		"--url-file", filepath.Join(alice.Config, "url"),
		"coder-vscode--alice--dev--main")
	session.WaitFor("SSH-2.0-", harness.Patience)
	require.True(t, networkInfo(t, dir).P2P)
	require.True(t, session.Running())

	lost := alice.Start("vscodessh", "--network-info-dir", dir,
		"--session-token-file", filepath.Join(alice.Config, "session"),
		"--url-file", filepath.Join(alice.Config, "url"), "coder-vscode--alice--nosuch")
	require.Equal(t, 1, lost.Wait(harness.Patience))
	require.Contains(t, lost.Output(), notYours)
}

// TestVSCodeThroughOpenSSH writes the block that the extension writes and opens
// the connection as its Remote-SSH does.
func TestVSCodeThroughOpenSSH(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	dir := filepath.Join(alice.Home, "net")
	require.NoError(t, os.Mkdir(dir, 0o700))
	block := fmt.Sprintf(`Host coder-vscode.rig--*
  ConnectTimeout 0
  LogLevel ERROR
  ProxyCommand %s --global-config %s ssh --stdio --usage-app=vscode --disable-autostart --network-info-dir %s --ssh-host-prefix coder-vscode.rig-- %%h
  ServerAliveCountMax 3
  ServerAliveInterval 10
  SetEnv CODER_SSH_SESSION_TYPE=vscode
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
`, alice.Bin, alice.Config, dir)
	require.NoError(t, os.WriteFile(alice.SSHConfig(), []byte(block), 0o600))
	out := alice.SSH("coder-vscode.rig--alice--dev.main", "echo opened")
	require.Zero(t, out.Code, out.Stderr)
	require.Equal(t, "opened\n", out.Stdout)
}

func TestOpenVSCodeMakesALinkAndAToken(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `directory = "~/project"`)
	agent, alice := connected(t, site)
	link := func(args ...string) url.Values {
		out := alice.Must(append([]string{"open", "vscode", "dev", "--test.open-error"}, args...)...)
		parsed, err := url.Parse(strings.TrimSpace(out))
		require.NoError(t, err)
		require.Equal(t, "vscode", parsed.Scheme)
		require.Equal(t, "coder.coder-remote", parsed.Host)
		return parsed.Query()
	}
	query := link()
	require.Equal(t, harness.Owner, query.Get("owner"))
	require.Equal(t, harness.Workspace, query.Get("workspace"))
	require.Equal(t, harness.AgentName, query.Get("agent"))
	require.Equal(t, site.Front.String(), query.Get("url"))
	require.Equal(t, filepath.Join(agent.Home, "project"), query.Get("folder"))
	require.Empty(t, query.Get("token"))
	token := link("--generate-token").Get("token")
	requireToken(t, site, token, true)
}

// TestOpenAppNamesTheApp lists the apps and opens one.
func TestOpenAppNamesTheApp(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.app]]
slug = "docs"
display_name = "Docs"
external = true
url = "https://docs.example.test/?token=$SESSION_TOKEN"
`)
	_, alice := connected(t, site)
	out := alice.Coder("open", "app", "dev")
	require.Zero(t, out.Code, out.Stderr)
	require.Contains(t, out.Stderr, "docs")
	out = alice.Coder("open", "app", "dev", "docs", "--test.open-error")
	require.Equal(t, 1, out.Code)
	require.Contains(t, out.Stderr, "https://docs.example.test/?token="+alice.Token)
}
