package interop

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/agentsdk"

	"moorline.test/interop/internal/harness"
)

// fakeSSH stands in for ssh: it keeps the identity file that `coder gitssh` made,
// which is gone as soon as the command ends.
const fakeSSH = `#!/bin/sh
for arg; do
  case "$arg" in -G) exit 0 ;; esac
done
while [ $# -gt 0 ]; do
  if [ "$1" = -i ]; then cp "$2" "$KEEP"; shift; fi
  shift
done
echo "fake ssh ran"
`

func TestGitSSHUsesTheOwnersKey(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	key, err := site.AgentClient(site.Token).GitSSHKey(harness.Context(t, harness.Patience))
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(key.PublicKey, "\n"))
	require.True(t, strings.HasSuffix(key.PrivateKey, "\n"))

	bin := site.Scratch("bin")
	require.NoError(t, os.Mkdir(bin, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(bin, "ssh"), []byte(fakeSSH), 0o700))
	kept := site.Scratch("kept")
	out := site.RunTool([]string{
		"PATH=" + bin + ":" + os.Getenv("PATH"),
		"KEEP=" + kept,
	}, "gitssh", "--", "git@git.example.test", "git-upload-pack 'x'")
	require.Zero(t, out.Code, out.Stderr)
	require.Contains(t, out.Stdout, "fake ssh ran")
	used, err := os.ReadFile(kept)
	require.NoError(t, err)
	require.Equal(t, key.PrivateKey, string(used))

	// The pair belongs together, by the judgement of OpenSSH itself.
	derived, err := exec.Command("ssh-keygen", "-y", "-P", "", "-f", writeKey(t, site, key.PrivateKey)).Output()
	require.NoError(t, err, "ssh-keygen must be installed and accept the key")
	require.Equal(t, strings.Fields(key.PublicKey)[:2], strings.Fields(string(derived))[:2])

	again, err := site.AgentClient(site.Token).GitSSHKey(harness.Context(t, harness.Patience))
	require.NoError(t, err)
	require.Equal(t, key, again, "the key is the owner's and stays")
}

func TestGitSSHFailsForAnUnknownToken(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	const unknown = "6f1c0c0e-0000-4000-8000-000000000000"
	_, err := site.AgentClient(unknown).GitSSHKey(harness.Context(t, harness.Patience))
	var refused *codersdk.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusUnauthorized, refused.StatusCode())

	out := site.RunTool([]string{"CODER_AGENT_TOKEN=" + unknown}, "gitssh", "--", "git@git.example.test")
	require.Equal(t, 1, out.Code)
	require.Contains(t, out.Stderr, refused.Message)
}

func TestExternalAuthSaysThatNothingMatches(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, err := site.AgentClient(site.Token).ExternalAuth(harness.Context(t, harness.Patience), agentsdk.ExternalAuthRequest{ID: "nosuch"})
	var refused *codersdk.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusNotFound, refused.StatusCode())

	out := site.RunTool(nil, "external-auth", "access-token", "nosuch")
	require.Equal(t, 1, out.Code)
	require.Empty(t, out.Stdout, "a script takes stdout for the token or the page to open")
	require.Contains(t, out.Stderr, refused.Message)
}

func TestGitAskpassLetsGitGoOnWhenNothingMatches(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	for _, prompt := range []string{
		"Username for 'https://git.example.test': ",
		"Password for 'https://someone@git.example.test': ",
	} {
		// git sets GIT_PREFIX; it is how the program knows that git called it.
		out := site.RunTool([]string{"GIT_PREFIX="}, prompt)
		require.Equal(t, 1, out.Code, prompt)
		require.Empty(t, out.Stdout, "stdout would be taken for the credential")
		require.Contains(t, out.Stderr, "The default git behavior will be used instead.")
	}
}

func writeKey(t *testing.T, site *harness.Site, private string) string {
	t.Helper()
	path := site.Scratch("key")
	require.NoError(t, os.WriteFile(path, []byte(private), 0o600))
	return path
}
