package interop

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"moorline.test/interop/internal/harness"
)

const (
	chief    = "carol"
	newcomer = "bob"
	// newcomerPath is the page of the newcomer's workspace, below the administration's and below their own name.
	newcomerPath = newcomer + "/" + harness.Workspace
)

// adminPages are all pages of the administration that there are when the newcomer has a workspace.
var adminPages = []string{
	"/admin", "/admin/users", "/admin/users/new", "/admin/users/" + newcomer, "/admin/users/" + newcomer + "/suspend",
	"/admin/workspaces", "/admin/workspaces/new", "/admin/workspaces/" + newcomerPath,
	"/admin/workspaces/" + newcomerPath + "/rotate", "/admin/plugins", "/admin/anchors", "/admin/health", "/admin/audit",
}

// enrolLine is what a machine runs where the server has no programs to give.
var enrolLine = regexp.MustCompile(`^CODER_AGENT_URL=(\S+) CODER_AGENT_TOKEN=([0-9a-f-]{36}) coder agent$`)

// newTab is the first tab of another person's browser, signed in.
func newTab(site *harness.Site, name, password string) (*harness.Chromium, *harness.Tab) {
	chromium := site.NewChromium()
	tab := chromium.Tab()
	tab.Open("/")
	tab.SignIn(name, password)
	return chromium, tab
}

// click presses the mouse upon what an expression gives, once the page is whole. Not by chromedp's own way: the
// numbers by which that names things are of no use when a page is just being replaced by another.
func click(tab *harness.Tab, expression string) {
	tab.WaitFor(harness.Patience, fmt.Sprintf("document.readyState === 'complete' && !!(%s)", expression))
	var place []float64
	tab.Do(chromedp.Evaluate(fmt.Sprintf(`(() => {
		const it = %s;
		it.scrollIntoView({ block: 'center', behavior: 'instant' });
		const box = it.getClientRects()[0];
		return [box.left + box.width / 2, box.top + box.height / 2];
	})()`, expression), &place))
	tab.Do(chromedp.MouseClickXY(place[0], place[1]))
}

// find is an expression for the first thing that a selector fits.
func find(selector string) string {
	return fmt.Sprintf("document.querySelector(%q)", selector)
}

// follow clicks the last link of a page with these words, and waits for the page with this heading. The menu of all
// pages comes first, then the one of those that belong together, then what a page says itself.
func follow(tab *harness.Tab, words, heading string) {
	click(tab, fmt.Sprintf("[...document.links].findLast((link) => link.innerText.trim() === %q)", words))
	waitHeading(tab, heading)
}

// waitHeading waits for the page with this heading, whole.
func waitHeading(tab *harness.Tab, heading string) {
	tab.WaitFor(harness.Patience, fmt.Sprintf(
		"document.readyState === 'complete' && document.querySelector('h1')?.innerText === %q", heading))
}

// enter types into a field of a form.
func enter(tab *harness.Tab, field, text string) {
	click(tab, find("#"+field))
	tab.Do(input.InsertText(text))
	tab.WaitFor(harness.Patience, fmt.Sprintf("%s.value === %q", find("#"+field), text))
}

// choose takes an option of a form.
func choose(tab *harness.Tab, field, value string) {
	tab.Eval(fmt.Sprintf("(%s.value = %q)", find("#"+field), value))
}

// send presses the button of a form, and waits for the page with this heading.
func send(tab *harness.Tab, heading string) {
	click(tab, find("main form.card button"))
	waitHeading(tab, heading)
}

// said waits until the page says so above its content.
func said(tab *harness.Tab, sentence string) {
	tab.WaitText(harness.Patience, ".said", sentence)
}

// secret is what the page shows this once, which neither a second look nor these other pages do.
func secret(t *testing.T, tab *harness.Tab, others ...string) string {
	t.Helper()
	shown := tab.Eval("document.querySelector('code.secret').textContent")
	require.NotEmpty(t, shown)
	for _, path := range append(others, tab.Eval("location.pathname")) {
		again := tab.EvalAsync(fmt.Sprintf("fetch(%q).then((answer) => answer.text())", path))
		require.NotContains(t, again, shown, path)
	}
	return shown
}

// startEnrolled runs the real agent with the token that the page shows.
func startEnrolled(t *testing.T, site *harness.Site, tab *harness.Tab) *harness.Agent {
	t.Helper()
	line := enrolLine.FindStringSubmatch(secret(t, tab, "/admin/workspaces/"+newcomerPath, "/admin/audit"))
	require.NotNil(t, line)
	require.Equal(t, site.Front.String(), strings.TrimSuffix(line[1], "/"))
	return site.StartAgent(harness.AgentOptions{Token: line[2]})
}

// waitRow waits until a page that is looked at again and again has a table row with all of this.
func waitRow(tab *harness.Tab, path string, parts ...string) {
	tab.WaitFor(harness.Patience, fmt.Sprintf(`(() => {
		const found = [...document.querySelectorAll('tbody tr')].some((row) => %s.every((part) => row.innerText.includes(part)));
		if (!found && document.readyState === 'complete') location.replace(%q);
		return found;
	})()`, list(parts), path))
}

// list is a list of texts for a script.
func list(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = fmt.Sprintf("%q", text)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

func TestBrowserAdministratorBringsSomebodyInAndSendsThemAway(t *testing.T) {
	t.Parallel()
	var args []string
	if dir := os.Getenv(harness.EnvPlugins); dir != "" {
		args = []string{"--plugin-dir", dir}
	}
	site := &harness.Site{Server: harness.StartServer(t, args...)}
	site.AddUser(chief, true)
	_, admin := newTab(site, chief, browserPassword)

	// A person, whose password the server makes.
	follow(admin, "Administration", "Workspaces")
	follow(admin, "Users", "Users")
	follow(admin, "Add a user", "Add a user")
	enter(admin, "name", newcomer)
	enter(admin, "email", newcomer+"@example.test")
	send(admin, "Password of "+newcomer)
	said(admin, newcomer+" was added.")
	password := secret(t, admin, "/admin/users/"+newcomer, "/admin/audit")
	require.Regexp(t, "^[A-Za-z0-9]{20}$", password)
	admin.Shoot("admin-password")
	follow(admin, "To "+newcomer, newcomer)

	// They sign in elsewhere, and have nothing yet.
	chromium, tab := newTab(site, newcomer, password)
	tab.WaitText(harness.Patience, "main", "You have none yet")
	require.NotContains(t, tab.Eval("document.querySelector('header').innerText"), "Administration")

	// A workspace for them, and its agent.
	follow(admin, "Workspaces", "Workspaces")
	follow(admin, "Add a workspace", "Add a workspace")
	choose(admin, "owner", newcomer)
	enter(admin, "name", harness.Workspace)
	send(admin, "On the machine of "+newcomerPath)
	said(admin, "The workspace was added.")
	admin.Shoot("admin-enrol")
	tab.Open("/@" + newcomerPath)
	tab.WaitText(harness.Patience, "main", "has not connected yet")
	tab.Eval("(window.mark = 'same page')")
	first := startEnrolled(t, site, admin)
	tab.WaitFor(harness.Patience, "document.querySelector('.state')?.innerText === 'connected'")
	require.Equal(t, "same page", tab.Eval("window.mark"), "it was never loaded again")

	terminal := chromium.Tab()
	terminal.Open("/@" + newcomerPath)
	click(terminal, find("a[aria-label^='Terminal on']"))
	waitConnected(terminal)
	command(terminal, "echo first $((6*7))", "first 42")
	tab.RequireQuiet()
	terminal.RequireQuiet()

	follow(admin, "To "+newcomerPath, newcomerPath)
	waitRow(admin, "/admin/workspaces/"+newcomerPath, harness.AgentName, "connected", "linux/amd64")
	admin.Shoot("admin-workspace")

	// A token of their own, for the command line.
	tab.Front()
	follow(tab, "Account", "Sessions and tokens")
	follow(tab, "New token", "New token")
	enter(tab, "token_name", "laptop")
	send(tab, "Your token")
	bob := site.Person(newcomer)
	laptop := []string{"CODER_URL=" + site.Front.String(), "CODER_SESSION_TOKEN=" + secret(t, tab, "/sessions")}
	listed := bob.CoderWith(harness.RunOptions{Env: laptop}, "list")
	require.Zero(t, listed.Code, listed.Stderr)
	require.Contains(t, listed.Stdout, newcomerPath)
	tab.Open("/sessions")
	click(tab, find("a[aria-label^='Revoke: laptop']"))
	waitHeading(tab, "Revoke laptop?")
	send(tab, "Sessions and tokens")
	said(tab, "laptop was revoked.")
	listed = bob.CoderWith(harness.RunOptions{Env: laptop}, "list")
	require.Equal(t, 1, listed.Code)
	require.Contains(t, listed.Stderr, "Try logging in using 'coder login'")

	// A password of their own; whatever else is signed in is so no longer, but this browser is.
	requireToken(t, site, bob.Token, true)
	follow(tab, "Password", "Password")
	enter(tab, "old_password", password)
	enter(tab, "password", browserPassword)
	enter(tab, "again", browserPassword)
	send(tab, "Password")
	said(tab, "Your password was changed.")
	requireToken(t, site, bob.Token, false)
	tab.RequireQuiet()
	// A terminal may have asked who it belongs to before this browser had its new session.
	terminal.Front()
	terminal.Do(chromedp.Reload())
	waitConnected(terminal)
	waitScreen(terminal, "first 42")
	terminal.Forgive()
	terminal.RequireQuiet()
	tab.Front()

	// Nothing of the administration is for them.
	for _, path := range adminPages {
		tab.Open(path)
		require.Equal(t, "403", tab.Eval("performance.getEntriesByType('navigation')[0].responseStatus"), path)
		tab.WaitText(harness.Patience, "main", "Only administrators may see and change this.")
	}
	tab.Forgive()
	tab.RequireQuiet()

	// The machine gets another token: the old agent is away, on everybody's pages.
	tab.Open("/@" + newcomerPath)
	tab.WaitFor(harness.Patience, "document.querySelector('.state')?.innerText === 'connected'")
	tab.Eval("(window.mark = 'same page')")
	follow(admin, "Rotate tokens…", "Rotate the tokens of "+newcomerPath+"?")
	send(admin, "On the machine of "+newcomerPath)
	said(admin, "The old tokens are refused from now on.")
	tab.WaitFor(harness.Patience, "document.querySelector('.state')?.innerText === 'disconnected'")
	require.Equal(t, "same page", tab.Eval("window.mark"))
	tab.WaitText(harness.Patience, "main", "comes back by itself")
	terminal.Front()
	terminal.WaitText(harness.Patience, "#state", "The agent is away")
	first.WaitCount("No agent has this token", 1, harness.Patience)
	terminal.Forgive()

	second := startEnrolled(t, site, admin)
	waitConnected(terminal)
	command(terminal, "echo second $((6*7))", "second 42")
	tab.Front()
	tab.WaitFor(harness.Patience, "document.querySelector('.state')?.innerText === 'connected'")
	require.NoError(t, second.Alive())
	// Pages may have asked for ports of the agent while it was away.
	for _, page := range []*harness.Tab{tab, terminal} {
		page.Forgive()
		page.RequireQuiet()
	}

	// What the server says of itself.
	follow(admin, "Health", "Health")
	admin.WaitText(harness.Patience, "main", site.Front.String())
	require.Equal(t, "1", admin.Eval("[...document.querySelectorAll('dt')].find((it) => it.innerText === 'Agents connected').nextElementSibling.innerText"))
	admin.Shoot("admin-health")
	follow(admin, "Plugins", "Plugins")
	for _, cloud := range []string{"aws", "azure", "google"} {
		waitRow(admin, "/admin/plugins", cloud, "identity")
	}
	admin.WaitText(harness.Patience, "main", "Nothing has left the server for a plugin.")

	// They go: what they have open ends, and they come in no more.
	follow(admin, "Users", "Users")
	follow(admin, newcomer, newcomer)
	follow(admin, "Suspend…", "Suspend "+newcomer+"?")
	send(admin, newcomer)
	said(admin, newcomer+" is suspended.")
	tab.WaitFor(harness.Patience, "location.pathname === '/login'")
	terminal.Front()
	terminal.WaitText(harness.Patience, "#state", "You are signed out")
	require.Equal(t, "false", terminal.Eval(onScreen("second 42")))
	tab.Front()
	enter(tab, "name", newcomer)
	enter(tab, "password", browserPassword)
	click(tab, find("form[action='/login'] button"))
	tab.WaitText(harness.Patience, ".problem", "suspended")
	for _, page := range []*harness.Tab{tab, terminal} {
		page.Forgive()
		page.RequireQuiet()
	}

	// All of it is written down, with where it came from.
	const here = "127.0.0.1"
	for _, entry := range [][]string{
		{chief, "user.create", newcomer, "done"},
		{chief, "workspace.create", newcomerPath, "done"},
		{chief, "agent.rotate_token", newcomerPath, "done"},
		{chief, "user.suspend", newcomer, "done"},
		{newcomer, "user.login", newcomer, "done"},
		{newcomer, "token.create", "laptop", "done"},
		{newcomer, "token.revoke", newcomer, "done"},
		{newcomer, "user.password", newcomer, "done"},
	} {
		path := "/admin/audit?person=" + entry[0] + "&action=" + entry[1]
		admin.Open(path)
		waitHeading(admin, "Audit log")
		waitRow(admin, path, append(entry, here)...)
	}
	admin.Shoot("admin-audit")
	admin.RequireQuiet()
}
