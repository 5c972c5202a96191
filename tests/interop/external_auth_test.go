package interop

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// found is how long the server uses what it has found out about a token.
const found = 5 * time.Second

// waiting is what git's helper says before it waits.
const waiting = "Open the following URL to authenticate with Git:"

// callback is where a provider sends people of this site back to.
func callback(site *harness.Site, provider string) string {
	return site.Front.JoinPath("external-auth", provider, "callback").String()
}

// account makes one at Gitea with a name that no other test has.
func account(t *testing.T, gitea *harness.Gitea, name string) string {
	t.Helper()
	name = strings.ToLower(name + "-" + strings.ReplaceAll(t.Name(), "/", "-"))
	name = name[:min(len(name), 38)]
	gitea.SignUp(t, name)
	return name
}

// signedIn is the browser of somebody who is signed in at the site.
func signedIn(t *testing.T, site *harness.Site, name string) *harness.Browser {
	t.Helper()
	browser := harness.NewBrowser(t)
	fields := map[string]string{"name": name, "password": "correct horse battery staple"}
	page := browser.Open(site.Front.JoinPath("/login").String()).Submit("/login", fields)
	require.Equal(t, "/", page.URL.Path)
	return browser
}

// link signs somebody in at Gitea, from the address that git's helper shows. Who
// has let the application in before sees no page of Gitea's on the way.
func link(t *testing.T, site *harness.Site, gitea *harness.Gitea, browser *harness.Browser, as string) *harness.Page {
	t.Helper()
	page := gitea.Grant(browser.Open(site.Front.JoinPath("/external-auth/gitea").String()), as)
	require.Equal(t, "/external-auth/gitea", page.URL.Path, page.Words())
	require.Contains(t, page.Words(), "You are signed in at Gitea")
	return page
}

// git is a session on the machine in which git runs with what the agent has set.
func git(site *harness.Site, person *harness.Person, command string) harness.Output {
	return person.Coder("ssh", harness.Owner+"/"+harness.Workspace, "--", "cd", site.Scratch(""), "&&", command)
}

// accessToken is what a script on the machine gets, and its exit code.
func accessToken(site *harness.Site, token, provider string) harness.Output {
	return site.RunTool([]string{"CODER_AGENT_TOKEN=" + token}, "external-auth", "access-token", provider)
}

// newToken waits until a script on the machine gets another token than before.
func newToken(t *testing.T, site *harness.Site, before string) string {
	t.Helper()
	var token string
	harness.Eventually(t, harness.GiteaTokenLife+harness.Patience, func() error {
		out := accessToken(site, site.Token, "gitea")
		require.Zero(t, out.Code, "nobody is asked to sign in again: %s%s", out.Stdout, out.Stderr)
		if out.Stdout == before {
			return fmt.Errorf("it is still the token of before")
		}
		token = out.Stdout
		return nil
	})
	return token
}

// cloneOnStart is a start script as people write it.
const cloneOnStart = `
[[workspace.agent.script]]
display_name = "Clone"
script = "git clone %s @SCRATCH@/clone"
run_on_start = true
`

// linked says how the owner stands with a provider.
func linked(t *testing.T, site *harness.Site, provider string) codersdk.ExternalAuth {
	t.Helper()
	found, err := site.Client.ExternalAuthByID(harness.Context(t, harness.Patience), provider)
	require.NoError(t, err)
	return found
}

func TestGitInAWorkspaceWaitsForItsOwnerAndGoesOn(t *testing.T) {
	t.Parallel()
	gitea := harness.SharedGitea(t)
	alice := account(t, gitea, "alice")
	repository := gitea.NewRepository(t, alice, "private")
	site := harness.NewPluginSite(t, fmt.Sprintf(cloneOnStart, repository))
	app := gitea.NewApp(t, alice, callback(site, "gitea"))
	site.AddProviders(gitea.Provider(app, ""))
	site.StartAgent(harness.AgentOptions{})

	// The start script's git shows in the workspace's log where to sign in, and waits.
	logged := func(text string) func() error {
		return func() error {
			for _, line := range site.Logs(0) {
				if strings.Contains(line.Output, text) {
					return nil
				}
			}
			return fmt.Errorf("the log of the script does not say %q", text)
		}
	}
	address := site.Front.JoinPath("/external-auth/gitea").String()
	harness.Eventually(t, harness.Patience, logged(address))
	require.NoDirExists(t, site.Scratch("clone/.git/refs/remotes/origin"))

	// It goes on waiting when the server dies under it.
	site.Kill()
	site.StartAgain()
	link(t, site, gitea, signedIn(t, site, harness.Owner), alice)
	harness.WaitFile(t, site.Scratch("clone/README.md"))
	harness.Eventually(t, harness.Patience, logged("You've been authenticated with Git!"))
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	require.True(t, linked(t, site, "gitea").Authenticated)

	// A session pushes without a word.
	person := site.SignedIn(harness.Owner)
	out := git(site, person, "cd clone && git config user.email a@example.test && git config user.name A"+
		" && echo more >README.md && git commit -qam 'from the workspace' && git push -q")
	require.Zero(t, out.Code, out.Stderr)
	require.NotContains(t, out.Stderr, waiting)
	require.Equal(t, "from the workspace", gitea.Subject(t, alice, "private"))

	// Tokens end soon here; each refresh token is good for one use. The second one was given
	// in exchange for the first, and to a server that has been killed since.
	first := accessToken(site, site.Token, "gitea").Stdout
	second := newToken(t, site, first)
	site.Kill()
	site.StartAgain()
	out = git(site, person, "git clone -q "+repository+" again")
	require.Zero(t, out.Code, out.Stderr)
	third := newToken(t, site, second)
	require.NotEqual(t, first, third)
	out = git(site, person, "git -C again pull -q")
	require.Zero(t, out.Code, out.Stderr)
	noSecrets(t, site, app.Secret, first, second, third)
}

// noSecrets looks for secrets in what the server writes for people to read.
func noSecrets(t *testing.T, site *harness.Site, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		require.NotEmpty(t, secret)
		require.NotContains(t, site.Log(), secret)
		for _, line := range site.Logs(0) {
			require.NotContains(t, line.Output, secret)
		}
	}
}

func TestGitAsksAgainOnceItsTokenIsRevoked(t *testing.T) {
	t.Parallel()
	gitea := harness.SharedGitea(t)
	alice := account(t, gitea, "alice")
	repository := gitea.NewRepository(t, alice, "private")
	site := harness.NewPluginSite(t, "")
	site.AddProviders(gitea.Provider(gitea.NewApp(t, alice, callback(site, "gitea")), ""))
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	person := site.SignedIn(harness.Owner)
	browser := signedIn(t, site, harness.Owner)
	address := site.Front.JoinPath("/external-auth/gitea").String()

	// Scripts get the address on stdout, and a code to tell it from a token.
	out := accessToken(site, site.Token, "gitea")
	require.Equal(t, 1, out.Code)
	require.Equal(t, address, out.Stdout)
	require.Empty(t, out.Stderr)
	link(t, site, gitea, browser, alice)
	out = accessToken(site, site.Token, "gitea")
	require.Zero(t, out.Code, out.Stderr)
	require.True(t, gitea.Takes(t, out.Stdout))
	out = git(site, person, "git clone -q "+repository+" first")
	require.Zero(t, out.Code, out.Stderr)

	// Revoked at Gitea: not at once, but soon, git asks for another sign-in, and says where.
	gitea.Revoke(t, alice)
	harness.Eventually(t, found+harness.Patience, func() error {
		out := accessToken(site, site.Token, "gitea")
		if out.Code != 1 || out.Stdout != address {
			return fmt.Errorf("exit code %d and %q", out.Code, out.Stdout)
		}
		return nil
	})
	require.False(t, linked(t, site, "gitea").Authenticated)
	all, err := site.Client.ListExternalAuths(harness.Context(t, harness.Patience))
	require.NoError(t, err)
	require.Len(t, all.Links, 1)
	require.False(t, all.Links[0].Authenticated)
	require.NotEmpty(t, all.Links[0].ValidateError, "its owner is told why")
	pull := person.Start("ssh", harness.Owner+"/"+harness.Workspace, "--", "git", "-C", site.Scratch("first"), "pull")
	pull.WaitFor(address, harness.Patience)
	link(t, site, gitea, browser, alice)
	require.Zero(t, pull.Wait(harness.Patience), pull.Output())
	require.Contains(t, pull.Output(), "You've been authenticated with Git!")

	// Signed out here: at once. Gitea revokes no tokens by itself, which the answer says.
	require.NoError(t, site.Client.UnlinkExternalAuthByID(harness.Context(t, harness.Patience), "gitea"))
	require.Equal(t, http.StatusNotFound, harness.Status(site.Client.UnlinkExternalAuthByID(harness.Context(t, harness.Patience), "gitea")))
	require.Equal(t, address, accessToken(site, site.Token, "gitea").Stdout)
	page := link(t, site, gitea, browser, alice).Press("/external-auth/gitea", "action", "unlink")
	require.Contains(t, page.Words(), "The provider revokes no tokens by itself")
	clone := person.Start("ssh", harness.Owner+"/"+harness.Workspace, "--", "git", "clone", repository, site.Scratch("second"))
	clone.WaitFor(address, harness.Patience)
	require.NoFileExists(t, site.Scratch("second/README.md"))

	// Whoever does not want to sign in ends the command, and nothing is left of it.
	clone.Kill()
	require.NoError(t, agent.Alive())
}

func TestPeopleHaveTokensOfTheirOwn(t *testing.T) {
	t.Parallel()
	gitea := harness.SharedGitea(t)
	alice, bob := account(t, gitea, "alice"), account(t, gitea, "bob")
	ofAlice, ofBob := gitea.NewRepository(t, alice, "private"), gitea.NewRepository(t, bob, "private")
	site := harness.NewPluginSite(t, "")
	site.AddUser("bob", false)
	bobs := site.AddWorkspace("bob", "dev").Agents[0].Token
	site.AddProviders(gitea.Provider(gitea.NewApp(t, alice, callback(site, "gitea")), ""))

	clone := func(token, repository, name string) harness.Output {
		return site.RunGit(token, "clone", "-q", repository, site.Scratch(name))
	}
	link(t, site, gitea, signedIn(t, site, harness.Owner), alice)
	require.Zero(t, accessToken(site, site.Token, "gitea").Code)
	out := accessToken(site, bobs, "gitea")
	require.Equal(t, 1, out.Code, "one person's sign-in is not another's")
	link(t, site, gitea, signedIn(t, site, "bob"), bob)
	one, other := accessToken(site, site.Token, "gitea").Stdout, accessToken(site, bobs, "gitea").Stdout
	require.NotEqual(t, one, other)

	require.Zero(t, clone(site.Token, ofAlice, "a").Code)
	require.Zero(t, clone(bobs, ofBob, "b").Code)
	require.NotZero(t, clone(site.Token, ofBob, "c").Code)
	require.NotZero(t, clone(bobs, ofAlice, "d").Code)

	// A browser that carries another person's sign-in back is turned away.
	require.NoError(t, site.Client.UnlinkExternalAuthByID(harness.Context(t, harness.Patience), "gitea"))
	back := harness.NewBrowser(t).Stopping("/external-auth/gitea/callback")
	page := back.Open(site.Front.JoinPath("/login").String()).Submit("/login",
		map[string]string{"name": harness.Owner, "password": "correct horse battery staple"})
	require.Equal(t, "/", page.URL.Path)
	address := gitea.Grant(back.Open(callback(site, "gitea")), alice).URL
	require.NotEmpty(t, address.Query().Get("code"))
	page = signedIn(t, site, "bob").Open(address.String())
	require.Equal(t, http.StatusUnauthorized, page.Status)
	require.Zero(t, accessToken(site, bobs, "gitea").Code, "bob's own stays")
	require.Equal(t, 1, accessToken(site, site.Token, "gitea").Code)
}

func TestAWrongSecretOfTheOperatorSignsNobodyOut(t *testing.T) {
	t.Parallel()
	gitea := harness.SharedGitea(t)
	alice := account(t, gitea, "alice")
	site := harness.NewPluginSite(t, "")
	app := gitea.NewApp(t, alice, callback(site, "gitea"))
	secret := site.Scratch("secret")
	require.NoError(t, os.WriteFile(secret, []byte(app.Secret), 0o600))
	app.Secret = ""
	site.AddProviders(gitea.Provider(app, fmt.Sprintf("client_secret_file = %q", secret)))
	link(t, site, gitea, signedIn(t, site, harness.Owner), alice)
	first := accessToken(site, site.Token, "gitea").Stdout

	// Gitea has got a new secret, which nobody has told the server: the token is good until its
	// end, then scripts and git are told that something is wrong, and not to sign in.
	renewed := gitea.RenewSecret(t, alice, app)
	harness.Eventually(t, harness.GiteaTokenLife+harness.Patience, func() error {
		out := accessToken(site, site.Token, "gitea")
		if out.Code == 0 {
			require.Equal(t, first, out.Stdout)
			return fmt.Errorf("the token has not ended yet")
		}
		require.Equal(t, 1, out.Code)
		require.Empty(t, out.Stdout)
		require.Contains(t, out.Stderr, "invalid client secret")
		return nil
	})
	out := site.TestProvider("gitea")
	require.Equal(t, 1, out.Code)
	require.Contains(t, out.Stdout, "refuses the client_id or its secret")

	require.NoError(t, os.WriteFile(secret, []byte(renewed), 0o600))
	site.Terminate()
	site.StartAgain()
	out = accessToken(site, site.Token, "gitea")
	require.Zero(t, out.Code, out.Stderr)
	require.NotEqual(t, first, out.Stdout)
	require.True(t, gitea.Takes(t, out.Stdout))
}
