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

func TestTokensCreateListRemove(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.SignedIn(harness.Owner)

	token := strings.TrimSpace(alice.Must("tokens", "create", "--name", "rig", "--lifetime", "24h"))
	requireToken(t, site, token, true)
	require.Contains(t, alice.Refused("tokens", "create", "--name", "rig"), "rig")
	unnamed := strings.TrimSpace(alice.Must("tokens", "create"))
	requireToken(t, site, unnamed, true)
	require.Contains(t, alice.Must("tokens", "list"), "rig")

	var listed []codersdk.APIKey
	require.NoError(t, json.Unmarshal([]byte(alice.Must("tokens", "list", "-o", "json")), &listed))
	named := map[string]codersdk.APIKey{}
	for _, key := range listed {
		named[key.TokenName] = key
	}
	require.Contains(t, named, "rig")
	id, _, _ := strings.Cut(token, "-")
	require.Equal(t, id, named["rig"].ID)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), named["rig"].ExpiresAt, time.Minute)

	require.Contains(t, alice.Must("tokens", "remove", "rig"), "Token has been deleted.")
	requireToken(t, site, token, false)
	// Also by the token itself, whose part before the hyphen is its id.
	alice.Must("tokens", "remove", unnamed)
	requireToken(t, site, unnamed, false)
	alice.Refused("tokens", "remove", "nosuch")
	require.NotContains(t, alice.Must("tokens", "list"), "rig")
}

func TestTokensOfOthersAreOutOfReach(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.AddUser("bob", false)
	site.AddUser("root", true)
	alice, bob, root := site.SignedIn(harness.Owner), site.SignedIn("bob"), site.SignedIn("root")

	token := strings.TrimSpace(alice.Must("tokens", "create", "--name", "mine"))
	id, _, _ := strings.Cut(token, "-")
	bob.Refused("tokens", "remove", "mine")
	bob.Refused("tokens", "remove", id)
	bob.Refused("tokens", "create", "--user", "alice")
	out := bob.Coder("tokens", "list", "--all")
	require.NotContains(t, out.Stdout, "mine")
	requireToken(t, site, token, true)

	require.Contains(t, root.Must("tokens", "list", "--all"), "mine")
	root.Must("tokens", "remove", id)
	requireToken(t, site, token, false)
}

func TestPublicKeyAndItsReset(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.SignedIn(harness.Owner)
	publicKey := func(args ...string) string {
		out := alice.Must(append([]string{"publickey"}, args...)...)
		for _, line := range strings.Split(out, "\n") {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "ssh-ed25519 ") {
				return line
			}
		}
		require.Fail(t, "no key", out)
		return ""
	}
	first := publicKey()
	require.Equal(t, first, publicKey())
	second := publicKey("--reset", "-y")
	require.NotEqual(t, first, second)
	require.Equal(t, second, publicKey())
}

func TestUsersAndOrganizations(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.AddUser("bob", false)
	site.AddUser("root", true)
	alice, root := site.SignedIn(harness.Owner), site.SignedIn("root")

	shown := alice.Must("users", "show", "me")
	require.Contains(t, shown, "alice@example.test")
	require.Contains(t, shown, "Organizations:")
	require.Contains(t, alice.Must("organizations", "show", "me"), "Organizations you are a member of:")
	list := root.Must("users", "list")
	for _, name := range []string{"alice", "bob", "root"} {
		require.Contains(t, list, name)
	}
	var users []codersdk.User
	require.NoError(t, json.Unmarshal([]byte(root.Must("users", "list", "-o", "json")), &users))
	require.GreaterOrEqual(t, len(users), 3)

	// An ordinary person learns nothing about others, and changes nothing.
	out := alice.Coder("users", "list")
	require.NotContains(t, out.Stdout, "bob@example.test")
	alice.Refused("users", "show", "bob")
	require.Equal(t, 1, alice.CoderWith(harness.RunOptions{Stdin: "yes\n"}, "users", "suspend", "bob").Code)
	require.Equal(t, 1, alice.Coder("users", "delete", "bob").Code)
	requireToken(t, site, site.CreateToken("bob"), true)
}

func TestAdministratorsManagePeople(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.AddUser("root", true)
	root := site.SignedIn("root")
	yes := func(args ...string) {
		t.Helper()
		out := root.CoderWith(harness.RunOptions{Stdin: "yes\n"}, args...)
		require.Zero(t, out.Code, "%v: %s", args, out.Stderr)
	}
	root.Must("users", "create", "-u", "dora", "-e", "dora@example.test", "-p", "correct horse battery staple", "--login-type", "password")
	reply, err := site.UserClient("").LoginWithPassword(harness.Context(t, harness.Patience), codersdk.LoginWithPasswordRequest{
		Email: "dora@example.test", Password: "correct horse battery staple",
	})
	require.NoError(t, err)
	requireToken(t, site, reply.SessionToken, true)
	yes("users", "suspend", "dora")
	requireToken(t, site, reply.SessionToken, false)
	yes("users", "activate", "dora")
	requireToken(t, site, site.CreateToken("dora"), true)
	root.Must("users", "delete", "dora")
	root.Refused("users", "show", "dora")
	require.NotContains(t, root.Must("users", "list"), "dora@example.test")
}

func TestExternalAuthSaysThatThereIsNoProvider(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	begun := time.Now()
	out := site.RunTool(nil, "external-auth", "access-token", "github")
	require.Equal(t, 1, out.Code)
	require.Empty(t, out.Stdout)
	require.Contains(t, out.Stderr, "get external auth token")
	require.Less(t, time.Since(begun), harness.Patience/2, "it does not wait for a provider that will never come")
	// Outside of a machine it is refused by the command itself.
	alice := site.SignedIn(harness.Owner)
	require.Contains(t, alice.Refused("external-auth", "access-token", "github"), "agent token not found")
}
