package interop

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

func TestListAndSearch(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.AddUser("bob", false)
	site.AddUser("root", true)
	site.AddWorkspace(harness.Owner, "deep")
	site.AddWorkspace("bob", "box")
	alice, bob, root := site.SignedIn(harness.Owner), site.SignedIn("bob"), site.SignedIn("root")

	list := alice.Must("list")
	require.Contains(t, list, "alice/dev")
	require.Contains(t, list, "alice/deep")
	require.Contains(t, list, "Started")
	require.NotContains(t, list, "bob/box")
	require.NotContains(t, bob.Must("list", "--all"), "alice/")
	all := root.Must("list", "--all")
	require.Contains(t, all, "alice/dev")
	require.Contains(t, all, "bob/box")

	require.NotContains(t, alice.Must("list", "--search", "name:dev"), "alice/deep")
	require.Contains(t, alice.Must("list", "--search", "name:de"), "alice/deep", "a part of the name is enough")
	require.Contains(t, alice.Must("list", "--search", "owner:me status:running"), "alice/dev")
	require.NotContains(t, alice.Must("list", "--search", "status:stopped"), "alice/dev")
	require.Contains(t, alice.Refused("list", "--search", "nonsense:x:y"), "validation error")

	var workspaces []codersdk.Workspace
	require.NoError(t, json.Unmarshal([]byte(alice.Must("list", "-o", "json")), &workspaces))
	require.Len(t, workspaces, 2)
	for _, workspace := range workspaces {
		require.Equal(t, codersdk.WorkspaceStatusRunning, workspace.LatestBuild.Status)
		require.Len(t, workspace.LatestBuild.Resources, 1)
		require.Len(t, workspace.LatestBuild.Resources[0].Agents, 1)
	}

	nobody := site.SignedIn("root")
	out := nobody.Coder("list")
	require.Zero(t, out.Code)
	require.Contains(t, out.Stderr, "No workspaces found!")
}

func TestShowWithAndWithoutAnAgent(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.SignedIn(harness.Owner)

	begun := time.Now()
	require.Contains(t, alice.Must("show", "dev"), "connecting")
	require.Less(t, time.Since(begun), 10*time.Second, "an agent that is not there is not waited for")

	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	shown := alice.Must("show", "dev")
	require.Contains(t, shown, "main (linux, amd64)")
	require.Contains(t, shown, "connected")
	require.Contains(t, shown, "v2.24.0")
	require.NotContains(t, shown, "outdated")

	agent.Kill()
	site.WaitStatus(codersdk.WorkspaceAgentDisconnected, promptly)
	require.Contains(t, alice.Must("show", "dev"), "disconnected")
	require.Contains(t, alice.Refused("show", "nosuch"), notYours)
}

func TestFavorites(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.AddUser("bob", false)
	alice, bob := site.SignedIn(harness.Owner), site.SignedIn("bob")
	favorite := func() bool {
		var workspaces []codersdk.Workspace
		require.NoError(t, json.Unmarshal([]byte(alice.Must("list", "-o", "json")), &workspaces))
		require.Len(t, workspaces, 1)
		return workspaces[0].Favorite
	}
	require.False(t, favorite())
	require.Contains(t, alice.Must("favorite", "dev"), `Workspace "dev" added to favorites.`)
	require.True(t, favorite())
	require.Contains(t, alice.Must("list"), "★")
	alice.Must("favorite", "dev")
	bob.Refused("favorite", "alice/dev")
	require.Contains(t, alice.Must("unfavorite", "dev"), `Workspace "dev" removed from favorites.`)
	require.False(t, favorite())
}

// TestLogsAsLaterCommandLinesReadThem makes the calls of `coder logs`, which
// release 2.24 does not have yet: it waits until the build's log has ended.
func TestLogsAsLaterCommandLinesReadThem(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.script]]
display_name = "Start"
run_on_start = true
script = "echo first; echo second"
`)
	site.StartAgent(harness.AgentOptions{})
	require.Equal(t, []string{"first", "second"}, outputs(waitLines(t, site, 2)))
	ctx := harness.Context(t, harness.Patience)
	workspace, err := site.Client.WorkspaceByOwnerAndName(ctx, codersdk.Me, harness.Workspace, codersdk.WorkspaceOptions{})
	require.NoError(t, err)
	build, closer, err := site.Client.WorkspaceBuildLogsAfter(ctx, workspace.LatestBuild.ID, 0)
	require.NoError(t, err)
	defer closer.Close()
	for range build {
	}
	require.NoError(t, ctx.Err(), "the build's log ends by itself")
	followed, following, err := site.Client.WorkspaceAgentLogsAfter(ctx, site.AgentID, 0, true)
	require.NoError(t, err)
	defer following.Close()
	require.Equal(t, []string{"first", "second"}, outputs(<-followed))
}

// TestWhatTheServerDoesNotDo checks that each refusal is one sentence that says
// what to do instead, and that nothing changed.
func TestWhatTheServerDoesNotDo(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.SignedIn(harness.Owner)
	for _, args := range [][]string{
		{"stop", "dev", "-y"},
		{"restart", "dev", "-y"},
		{"delete", "dev", "-y"},
		{"create", "fresh", "--template", "declared", "-y"},
		{"schedule", "start", "dev", "9:30AM", "Mon-Fri", "UTC"},
		{"schedule", "stop", "dev", "8h"},
		{"schedule", "extend", "dev", "10h"},
		{"autoupdate", "dev", "always", "-y"},
	} {
		out := alice.Coder(args...)
		require.Equal(t, 1, out.Code, "%v\n%s%s", args, out.Stdout, out.Stderr)
		said := sentence(out.Stderr)
		require.Greater(t, len(strings.Fields(said)), 8, "%v says %q in\n%s", args, said, out.Stderr)
		require.NotContains(t, out.Stderr, "not found", "%v", args)
		require.NotContains(t, out.Stderr, "Suggestion", "%v: no advice that does not help", args)
	}
	// What holds already is no error.
	require.Contains(t, alice.Must("start", "dev", "-y"), "already running")
	require.Contains(t, alice.Must("update", "dev"), "up-to-date")
	require.Contains(t, alice.Must("schedule", "show", "dev"), "alice/dev")
	alice.Must("templates", "list")
	require.Contains(t, alice.Must("list"), "alice/dev")
}

// sentence is the message within the layout of the coder command's errors
// (cli/root.go formatCoderSDKError, v2.24.0).
func sentence(stderr string) string {
	_, message, _ := strings.Cut(stderr, "error: ")
	for _, line := range strings.Split(message, "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "Trace=") {
			return line
		}
	}
	return ""
}
