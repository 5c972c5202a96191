package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// giteaBin is the name of the program in the cache; what it reads lies in
// giteaBin + ".d".
const giteaBin = "gitea"

// GiteaTokenLife is how long the access tokens of the test Gitea are good. The
// server refreshes them 10 s before their end, so each is used for the rest.
const GiteaTokenLife = 16 * time.Second

// GiteaPassword is everybody's.
const GiteaPassword = "a password for gitea"

// Gitea is a real Gitea. All tests of a run share one: it takes seconds to start.
type Gitea struct {
	// URL is where it is.
	URL *url.URL

	dir   string
	child *process
}

var shared struct {
	sync.Mutex
	gitea *Gitea
}

// SharedGitea starts the Gitea of this run unless it is there.
func SharedGitea(t testing.TB) *Gitea {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.gitea == nil {
		shared.gitea = startGitea(t)
	}
	t.Cleanup(func() { shared.gitea.child.showOnFailure(t, "gitea") })
	return shared.gitea
}

// StopShared ends what tests share; for the end of the run.
func StopShared() {
	shared.Lock()
	defer shared.Unlock()
	if shared.gitea != nil {
		shared.gitea.child.kill()
		_ = os.RemoveAll(shared.gitea.dir)
	}
}

// giteaConfig is what is not left at its default, for tests: no mail, no
// pictures, no work in the background, plain passwords' hashes cheap.
const giteaConfig = `
RUN_USER = %[1]s
WORK_PATH = %[2]s
RUN_MODE = prod
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %[3]s
ROOT_URL = http://127.0.0.1:%[3]s/
STATIC_ROOT_PATH = %[4]s
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = %[2]s/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = only-for-tests-only-for-tests-only-for-tests-only-for-tests
PASSWORD_HASH_ALGO = pbkdf2$1000$50
MIN_PASSWORD_LENGTH = 8
[oauth2]
ENABLED = true
ACCESS_TOKEN_EXPIRATION_TIME = %[5]d
INVALIDATE_REFRESH_TOKENS = true
[service]
DISABLE_REGISTRATION = false
[repository]
ROOT = %[2]s/repositories
DEFAULT_BRANCH = main
[indexer]
ISSUE_INDEXER_TYPE = db
[queue]
TYPE = channel
[session]
PROVIDER = memory
[cron]
ENABLED = false
[actions]
ENABLED = false
[packages]
ENABLED = false
[log]
MODE = console
LEVEL = warn
`

func startGitea(t testing.TB) *Gitea {
	t.Helper()
	bin, err := agentBin(giteaBin)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "gitea")
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	port := FreePort(t)
	config := filepath.Join(dir, "app.ini")
	text := fmt.Sprintf(giteaConfig, me.Username, dir, port, bin+".d", int(GiteaTokenLife.Seconds()))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--config", config, "--work-path", dir, "web")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "USER=" + me.Username, "TMPDIR=" + dir, "LANG=C.UTF-8"}
	g := &Gitea{
		URL:   &url.URL{Scheme: "http", Host: "127.0.0.1:" + port},
		dir:   dir,
		child: startProcess(t, cmd, filepath.Join(dir, "gitea.log")),
	}
	Eventually(t, startWithin, func() error {
		if !g.child.running() {
			t.Fatalf("gitea ended: %v\n%s", g.child.err, g.child.log())
		}
		reply, err := http.Get(g.URL.JoinPath("/api/healthz").String())
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		if reply.StatusCode != http.StatusOK {
			return fmt.Errorf("gitea answers %s", reply.Status)
		}
		return nil
	})
	return g
}

// FreePort is a TCP port that nobody listened on a moment ago.
func FreePort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// SignUp makes an account.
func (g *Gitea) SignUp(t testing.TB, name string) {
	t.Helper()
	fields := map[string]string{
		"user_name": name, "email": name + "@example.test", "password": GiteaPassword, "retype": GiteaPassword,
	}
	page := NewBrowser(t).Open(g.URL.JoinPath("/user/sign_up").String()).Submit("/user/sign_up", fields)
	if page.Status != http.StatusOK || page.URL.Path == "/user/sign_up" {
		t.Fatalf("sign up at gitea: %d at %s", page.Status, page.URL)
	}
}

// Browser is one in which this account is signed in.
func (g *Gitea) Browser(t testing.TB, name string) *Browser {
	t.Helper()
	browser := NewBrowser(t)
	g.signIn(browser.Open(g.URL.JoinPath("/user/login").String()), name)
	return browser
}

func (g *Gitea) signIn(page *Page, name string) *Page {
	return page.Submit("/user/login", map[string]string{"user_name": name, "password": GiteaPassword})
}

// Grant signs in on the page to which somebody was sent, if it asks for that,
// and lets the application in, if it asks for that. What comes of it is where
// the provider sends the browser.
func (g *Gitea) Grant(page *Page, name string) *Page {
	if page.URL.Host == g.URL.Host && page.URL.Path == "/user/login" {
		page = g.signIn(page, name)
	}
	if page.URL.Host == g.URL.Host && page.URL.Path == "/login/oauth/authorize" {
		page = page.Press("/login/oauth/grant", "granted", "true")
	}
	return page
}

// call uses the API as this account and returns the answer's status.
func (g *Gitea) call(t testing.TB, name, method, path string, body, into any) int {
	t.Helper()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(Context(t, Patience), method, g.URL.JoinPath("/api/v1", path).String(), content)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(name, GiteaPassword)
	request.Header.Set("Content-Type", "application/json")
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("gitea: %v", err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatalf("gitea: %v", err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("gitea answers %s %s with %s: %s", method, path, reply.Status, text)
		}
	}
	return reply.StatusCode
}

// GiteaApp is an application that signs people in.
type GiteaApp struct {
	ID     int64  `json:"id"`
	Client string `json:"client_id"`
	Secret string `json:"client_secret"`
}

// NewApp registers one, of this account; nobody is sent back to other addresses.
func (g *Gitea) NewApp(t testing.TB, owner string, redirects ...string) GiteaApp {
	t.Helper()
	return g.newApp(t, owner, true, redirects)
}

// NewPublicApp registers one without a secret, of which Gitea demands PKCE and
// for which it asks people each time.
func (g *Gitea) NewPublicApp(t testing.TB, owner string, redirects ...string) GiteaApp {
	t.Helper()
	app := g.newApp(t, owner, false, redirects)
	app.Secret = ""
	return app
}

func (g *Gitea) newApp(t testing.TB, owner string, secret bool, redirects []string) GiteaApp {
	t.Helper()
	var app GiteaApp
	body := map[string]any{"name": "moorline", "redirect_uris": redirects, "confidential_client": secret}
	if status := g.call(t, owner, http.MethodPost, "/user/applications/oauth2", body, &app); status != http.StatusCreated {
		t.Fatalf("gitea makes no application: %d", status)
	}
	return app
}

// RenewSecret gives an application another secret.
func (g *Gitea) RenewSecret(t testing.TB, owner string, app GiteaApp) string {
	t.Helper()
	path := fmt.Sprintf("/user/applications/oauth2/%d", app.ID)
	var found, changed map[string]any
	g.call(t, owner, http.MethodGet, path, nil, &found)
	if status := g.call(t, owner, http.MethodPatch, path, found, &changed); status != http.StatusOK {
		t.Fatalf("gitea changes no application: %d", status)
	}
	secret, _ := changed["client_secret"].(string)
	if secret == "" {
		t.Fatal("gitea gives no secret")
	}
	return secret
}

// NewRepository makes a private one with a file, and returns its address.
func (g *Gitea) NewRepository(t testing.TB, owner, name string) string {
	t.Helper()
	body := map[string]any{"name": name, "private": true, "auto_init": true, "readme": "Default"}
	if status := g.call(t, owner, http.MethodPost, "/user/repos", body, nil); status != http.StatusCreated {
		t.Fatalf("gitea makes no repository: %d", status)
	}
	return g.URL.JoinPath(owner, name+".git").String()
}

// Subject is that of the newest commit in a repository.
func (g *Gitea) Subject(t testing.TB, owner, name string) string {
	t.Helper()
	var commits []struct {
		Commit struct{ Message string }
	}
	path := fmt.Sprintf("/repos/%s/%s/commits", owner, name)
	if status := g.call(t, owner, http.MethodGet, path, nil, &commits); status != http.StatusOK || len(commits) == 0 {
		t.Fatalf("gitea lists no commits: %d", status)
	}
	return strings.TrimSpace(commits[0].Commit.Message)
}

// Takes says whether Gitea still takes an access token.
func (g *Gitea) Takes(t testing.TB, token string) bool {
	t.Helper()
	return takes(t, g.URL.JoinPath("/login/oauth/userinfo"), token)
}

// Revoke takes the grant of an application back on the settings page of its
// account, as people do.
func (g *Gitea) Revoke(t testing.TB, name string) {
	t.Helper()
	browser := g.Browser(t, name)
	page := browser.Open(g.URL.JoinPath("/user/settings/applications").String())
	address := page.Attribute("data-modal-id", "revoke-gitea-oauth2-grant", "data-url")
	if address == "" {
		t.Fatalf("gitea shows no grant of %s", name)
	}
	if page := browser.Post(g.URL.JoinPath(address).String(), nil); page.Status != http.StatusOK {
		t.Fatalf("gitea revokes no grant: %d", page.Status)
	}
}

// Provider is the table of the configuration for this Gitea; more are further
// lines.
func (g *Gitea) Provider(app GiteaApp, more string) string {
	if app.Secret != "" {
		more += fmt.Sprintf("\nclient_secret = %q", app.Secret)
	}
	return fmt.Sprintf(`
[[external_auth]]
type = "gitea"
client_id = %q
auth_url = "%s/login/oauth/authorize"
%s
`, app.Client, g.URL, more)
}
