package interop

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"moorline.test/interop/internal/harness"
)

// TestRPTYIsATerminalOfTheServer runs `coder exp rpty`, which has its terminals from the server as browsers have. It
// ends with 0 whatever the program's own end was: nothing of it comes along (cli/exp_rpty.go, v2.24.0).
func TestRPTYIsATerminalOfTheServer(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.SignedIn(harness.Owner)
	began := time.Now()
	require.Contains(t, alice.Refused("exp", "rpty", "dev", "true"), "connecting", "the agent is away")
	require.Less(t, time.Since(began), promptly)

	agent, _ := connected(t, site)
	out := alice.Coder("exp", "rpty", "dev", "echo", "sum=$((20+22))=")
	require.Zero(t, out.Code, out.Stderr)
	require.Contains(t, out.Stdout, "sum=42=\r\n")
	require.Empty(t, out.Stderr)
	out = alice.Coder("exp", "rpty", "dev", "echo before; exit 7")
	require.Zero(t, out.Code, out.Stderr)
	require.Contains(t, out.Stdout, "before")
	out = alice.Coder("exp", "rpty", "dev", "no-such-program-here")
	require.Zero(t, out.Code, out.Stderr)
	require.Contains(t, out.Stdout, "not found")
	// What is typed into it.
	out = alice.CoderWith(harness.RunOptions{Stdin: "one\ntwo\n\x04"}, "exp", "rpty", "dev", "wc -l")
	require.Zero(t, out.Code, out.Stderr)
	require.Regexp(t, `(?m)^2\r?$`, out.Stdout)

	id := uuid.NewString()
	shell := alice.Terminal("exp", "rpty", "-r", id, "dev", "sh")
	shell.Echo("first", harness.Patience)
	shell.Resize(33, 111)
	shell.Type("stty size; kept=yes\n")
	shell.WaitFor("33 111", harness.Patience)
	again := alice.Terminal("exp", "rpty", "-r", id, "dev", "sh")
	again.Type("echo kept=$kept.\n")
	again.WaitFor("kept=yes.", harness.Patience)
	again.Type("exit\n")
	require.Zero(t, again.Wait(harness.Patience))
	require.Zero(t, shell.Wait(harness.Patience), "it is the same shell")

	require.Contains(t, alice.Refused("exp", "rpty", "-r", "x", "dev"), "invalid reconnect ID")
	require.Contains(t, alice.Refused("exp", "rpty", "nosuch"), notYours)
	require.NoError(t, agent.Alive())
}

// TestOpenAppLeadsToATerminal: a declared command has the page of a terminal as its link, and that page asks first.
func TestOpenAppLeadsToATerminal(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.app]]
slug = "top"
display_name = "Processes"
command = "echo it ran with $((1+2)) words; sleep 1000"
`)
	_, alice := connected(t, site)
	out := alice.Coder("open", "app", "dev", "top", "--test.open-error")
	require.Equal(t, 1, out.Code)
	_, address, _ := strings.Cut(out.Stderr, "Opening ")
	address = strings.Fields(address)[0]
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	require.Equal(t, site.URL.Host, parsed.Host)
	require.Equal(t, "/@alice/dev.main/terminal", parsed.Path)

	_, tab := signedInTab(site)
	tab.OpenURL(address)
	tab.WaitText(harness.Patience, "dialog[open] #command", "it ran with")
	clickRun(tab)
	waitScreen(tab, "it ran with 3 words")
	tab.RequireQuiet()
}
