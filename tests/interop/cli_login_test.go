package interop

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// stored is what the coder command keeps in its configuration folder, empty when
// there is no such file.
func stored(t *testing.T, p *harness.Person, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(p.Config, name))
	if os.IsNotExist(err) {
		return ""
	}
	require.NoError(t, err)
	return string(content)
}

// requireToken says whether a token is good: 401 once it was revoked.
func requireToken(t *testing.T, s *harness.Site, token string, good bool) {
	t.Helper()
	_, err := s.UserClient(token).User(harness.Context(t, harness.Patience), codersdk.Me)
	if good {
		require.NoError(t, err)
	} else {
		require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)
	}
}

func TestLoginWithATokenMakesASessionOfItsOwn(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.Person(harness.Owner)

	out := alice.Must("login", site.Front.String(), "--token", alice.Token)
	require.Contains(t, out, "Welcome to Coder, alice! You're authenticated.")
	session := stored(t, alice, "session")
	require.NotEqual(t, alice.Token, session)
	require.Equal(t, site.Front.String(), stored(t, alice, "url"))
	require.Contains(t, alice.Must("whoami"), "You're authenticated as alice !")

	// Such sessions pile up with each login, so they must end by themselves.
	id, _, _ := strings.Cut(session, "-")
	key, err := site.UserClient(session).APIKeyByID(harness.Context(t, harness.Patience), codersdk.Me, id)
	require.NoError(t, err)
	require.True(t, key.ExpiresAt.After(time.Now()))
	require.True(t, key.ExpiresAt.Before(time.Now().AddDate(1, 0, 1)), "expires at %v", key.ExpiresAt)

	// The session does not hang on the token that made it.
	site.RevokeToken(alice.Token)
	requireToken(t, site, alice.Token, false)
	require.Contains(t, alice.Must("whoami"), "alice")
}

func TestLoginWithATokenAsSessionAndLogout(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.Person(harness.Owner)

	// VS Code hands the token over in the environment.
	out := alice.CoderWith(harness.RunOptions{Env: []string{"CODER_SESSION_TOKEN=" + alice.Token}},
		"login", "--use-token-as-session", site.Front.String())
	require.Zero(t, out.Code, out.Stderr)
	require.Equal(t, alice.Token, stored(t, alice, "session"))

	require.Contains(t, alice.Must("logout", "-y"), "You are no longer logged in.")
	require.Empty(t, stored(t, alice, "session"))
	require.Empty(t, stored(t, alice, "url"))
	requireToken(t, site, alice.Token, false)
	require.Contains(t, alice.Refused("list"), "You are not logged in")
}

func TestLoginWithABadTokenStoresNothing(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.Person(harness.Owner)
	for _, token := range []string{"AAAAAAAAAA-BBBBBBBBBBBBBBBBBBBBBB", "nonsense", alice.Token + "x"} {
		for _, args := range [][]string{{}, {"--use-token-as-session"}} {
			said := alice.Refused(append([]string{"login", site.Front.String(), "--token", token}, args...)...)
			require.Contains(t, said, "Try logging in using 'coder login'", token)
			require.Empty(t, stored(t, alice, "session"))
		}
	}
	require.Contains(t, alice.Refused("whoami"), "You are not logged in")
}

func TestLoginPromptsForATokenFromThePage(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.Person(harness.Owner)

	terminal := alice.Terminal("login", site.Front.String(), "--no-open")
	terminal.WaitFor(site.Front.JoinPath("/cli-auth").String(), harness.Patience)
	terminal.WaitFor("Paste your token here", harness.Patience)
	terminal.Type("AAAAAAAAAA-BBBBBBBBBBBBBBBBBBBBBB\r")
	terminal.WaitFor("That's not a valid token!", harness.Patience)

	// The page that it names, in a browser where nobody is signed in.
	browser := harness.NewBrowser(t)
	page := browser.Open(site.Front.JoinPath("/cli-auth").String())
	require.Equal(t, "/login", page.URL.Path)
	page = page.Submit("/login", map[string]string{"name": harness.Owner, "password": "wrong"})
	require.Equal(t, "/login", page.URL.Path)
	page = page.Submit("/login", map[string]string{"name": harness.Owner, "password": "correct horse battery staple"})
	require.Equal(t, "/cli-auth", page.URL.Path)
	token := page.Submit("/cli-auth", nil).Text("textbox")
	requireToken(t, site, token, true)
	terminal.Type(token + "\r")
	terminal.WaitFor("Welcome to Coder, alice!", harness.Patience)
	require.Zero(t, terminal.Wait(harness.Patience))
	require.NotContains(t, terminal.Output(), token, "what is pasted is not shown")
	require.Equal(t, token, stored(t, alice, "session"))
	require.Contains(t, alice.Must("whoami"), "alice")
}

func TestNobodyClaimsAServerAsItsFirstUser(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	has, err := site.Client.HasFirstUser(ctx)
	require.NoError(t, err)
	require.True(t, has, "serve makes the administrator, so that nobody on the network can")
	_, err = site.UserClient("").CreateFirstUser(ctx, codersdk.CreateFirstUserRequest{
		Email: "mallory@example.test", Username: "mallory", Password: "correct horse battery staple",
	})
	require.Equal(t, http.StatusConflict, harness.Status(err), "%v", err)
}

func TestPasswordSignInAsAPageDoesIt(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	stranger := site.UserClient("")
	_, err := stranger.LoginWithPassword(ctx, codersdk.LoginWithPasswordRequest{Email: "alice@example.test", Password: "wrong"})
	require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)
	reply, err := stranger.LoginWithPassword(ctx, codersdk.LoginWithPasswordRequest{
		Email: "alice@example.test", Password: "correct horse battery staple",
	})
	require.NoError(t, err)
	requireToken(t, site, reply.SessionToken, true)
}

func TestEnvironmentIsEnoughWithoutAnyFile(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.Person(harness.Owner)
	alice.Env = []string{"CODER_URL=" + site.Front.String(), "CODER_SESSION_TOKEN=" + alice.Token}
	require.Contains(t, alice.Must("list"), "alice/dev")
	out := alice.CoderWith(harness.RunOptions{Env: []string{"CODER_SESSION_TOKEN=AAAAAAAAAA-BBBBBBBBBBBBBBBBBBBBBB"}}, "list")
	require.Equal(t, 1, out.Code)
	require.Contains(t, out.Stderr, "Try logging in using 'coder login'")
}

func TestNoCommandWarnsOfAVersionMismatch(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.Person(harness.Owner)
	out := alice.Coder("login", site.Front.String(), "--token", alice.Token, "--use-token-as-session")
	require.Zero(t, out.Code)
	require.Empty(t, out.Stderr)
	for _, args := range [][]string{{"list"}, {"whoami"}, {"users", "show", "me"}} {
		out := alice.Coder(args...)
		require.Zero(t, out.Code, "%v: %s", args, out.Stderr)
		require.Empty(t, out.Stderr, "%v", args)
	}
}
