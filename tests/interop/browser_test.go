package interop

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

const browserPassword = "correct horse battery staple"

// browserAgent says something when it starts and, when the file is there, something more.
const browserAgent = `
[[workspace.agent.metadata]]
key = "count"
display_name = "Count"
script = "echo x >> @SCRATCH@/count; wc -l < @SCRATCH@/count"
interval = 1
timeout = 5

[[workspace.agent.script]]
display_name = "Hello"
script = "echo the script begins; while ! [ -e @SCRATCH@/go ]; do sleep 0.2; done; echo the script ends"
run_on_start = true
`

const (
	workspacePath = "/@" + harness.Owner + "/" + harness.Workspace
	terminalPath  = workspacePath + "/terminal"
)

// signedInTab is a new browser's first tab, after the sign-in form.
func signedInTab(site *harness.Site) (*harness.Chromium, *harness.Tab) {
	chromium := site.NewChromium()
	tab := chromium.Tab()
	tab.Open("/")
	tab.SignIn(harness.Owner, browserPassword)
	return chromium, tab
}

// waitConnected waits until a terminal has heard of its shell.
func waitConnected(tab *harness.Tab) {
	tab.WaitFor(harness.Patience, "document.body.dataset.state === 'good'")
}

func showTerminal(tab *harness.Tab, path string) {
	tab.Open(path)
	waitConnected(tab)
}

// onScreen says whether a terminal shows a line that begins with this text.
func onScreen(line string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.xterm-rows > div')]`+
		`.some((row) => row.textContent.replaceAll('\u00a0', ' ').startsWith(%q))`, line)
}

// waitScreen waits for it.
func waitScreen(tab *harness.Tab, line string) {
	tab.WaitFor(harness.Patience, onScreen(line))
}

// command types a line whose answer is not in the line itself.
func command(tab *harness.Tab, line, answer string) {
	tab.Type(line + "\r")
	waitScreen(tab, answer)
}

func TestBrowserSeesWorkspacesLive(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, browserAgent)
	tab := site.NewChromium().Tab()
	tab.Open(workspacePath)
	require.Equal(t, "/login", tab.Eval("location.pathname"))
	tab.SignIn(harness.Owner, browserPassword)
	require.Equal(t, workspacePath, tab.Eval("location.pathname"), "where it wanted to go")
	tab.Open("/")
	tab.WaitText(harness.Patience, "main", "has not connected yet")
	tab.Eval("(window.mark = 'same page')")

	agent := site.StartAgent(harness.AgentOptions{})
	tab.WaitText(harness.Patience, "main", "starting")
	tab.WaitFor(harness.Patience, "document.querySelector('body > p.away').textContent === 'dev: starting'")
	tab.WaitFor(harness.Patience, "Number(document.querySelector('.metadata dd').innerText) >= 2")
	tab.Shoot("list")
	tab.Size(360, 740, "dark")
	tab.Shoot("list-narrow-dark")
	tab.Size(1000, 700, "light")

	tab.Do(chromedp.Click("h2 a", chromedp.ByQuery))
	tab.WaitText(harness.Patience, ".log", "the script begins")
	tab.Eval("(window.mark = 'same page')")
	require.NoError(t, os.WriteFile(site.Scratch("go"), nil, 0o600))
	tab.WaitText(harness.Patience, ".log", "the script ends")
	tab.WaitText(harness.Patience, "main", "connected")
	tab.WaitText(harness.Patience, "main", "ssh main.dev.alice.coder")
	tab.Shoot("workspace")
	require.Equal(t, "same page", tab.Eval("window.mark"), "it was never loaded again")
	tab.RequireQuiet()

	agent.Kill()
	tab.WaitText(time.Minute, "main", "disconnected")
	tab.WaitText(harness.Patience, "main", "comes back by itself")
	require.Equal(t, "same page", tab.Eval("window.mark"))
	tab.Shoot("workspace-away")

	// The server goes away and comes back, and the page says so.
	site.Kill()
	tab.WaitText(harness.Patience, "#live", "The server does not answer")
	site.StartAgain()
	tab.WaitFor(harness.Patience, "document.querySelector('#live').textContent === ''")

	// Who may not see it any more sees it no longer.
	site.SuspendUser(harness.Owner)
	tab.WaitFor(harness.Patience, "location.pathname === '/login'")
	tab.Forgive()
	tab.RequireQuiet()
}

func TestBrowserListsPortsThatOpenAndClose(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	_, tab := signedInTab(site)
	server := httptest.NewServer(http.NotFoundHandler())
	port := server.Listener.Addr().String()[len("127.0.0.1:"):]
	tab.Open(workspacePath)
	tab.WaitText(harness.Patience, ".ports", "coder port-forward dev.main --tcp "+port)
	server.Close()
	tab.WaitFor(time.Minute, fmt.Sprintf("!document.querySelector('.ports').innerText.includes('--tcp %s')", port))
	tab.Shoot("ports")
	tab.RequireQuiet()
}

func TestBrowserTerminal(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	chromium, tab := signedInTab(site)
	tab.Size(1000, 700, "dark")
	showTerminal(tab, terminalPath)
	require.Equal(t, harness.Workspace, tab.Eval("document.title"))
	command(tab, "echo $((6*7))", "42")
	command(tab, "MARK=kept; printf 'w\\303\\244i\\303\\237 %s\\n' $MARK", "wäiß kept")
	command(tab, `printf '\033[31mred\033[0m \033[44mblue\033[0m \033[1mbold\033[0m\n'`, "red blue bold")
	tab.Shoot("terminal-dark")
	// The page's policy lets the emulator's colours through.
	require.Equal(t, "rgb(255, 123, 114)", colour(tab, "red"))

	size := func() string {
		return fmt.Sprintf("size %s %s", tab.Eval("document.querySelectorAll('.xterm-rows > div').length"), columns(t, tab))
	}
	command(tab, "echo size $(stty size)", size())
	before := size()
	tab.Size(600, 400, "light")
	tab.WaitFor(harness.Patience, fmt.Sprintf("document.querySelectorAll('.xterm-rows > div').length < %s", before[5:7]))
	tab.Type("clear\r")
	harness.Eventually(t, harness.Patience, func() error {
		tab.Type("echo size $(stty size)\r")
		time.Sleep(200 * time.Millisecond)
		if want := size(); want == before || tab.Eval(onScreen(want)) != "true" {
			return fmt.Errorf("the shell does not know of %s", want)
		}
		return nil
	})
	tab.Shoot("terminal-light-small")

	// A reload comes back to the same shell, and shows what was there.
	address := tab.Eval("location.pathname + location.search")
	require.Contains(t, address, "?reconnect=")
	tab.Type("clear\r")
	command(tab, "echo before $((1+1))", "before 2")
	tab.Do(chromedp.Reload())
	waitConnected(tab)
	waitScreen(tab, "before 2")
	command(tab, "echo $MARK again", "kept again")

	// Another tab sees the same, and what is typed there is seen here.
	second := chromium.Tab()
	showTerminal(second, address)
	command(second, "echo $MARK twice $((2+2))", "kept twice 4")
	tab.Front()
	waitScreen(tab, "kept twice 4")
	second.RequireQuiet()

	// Whoever has no mouse can leave it.
	tab.Front()
	tab.Chord([]rune(kb.F6)[0], input.ModifierCtrl)
	require.Equal(t, "leave", tab.Eval("document.activeElement.id"))
	tab.Do(chromedp.Focus(".xterm-helper-textarea", chromedp.ByQuery))

	// A shell that ends says so, and Enter brings a new one.
	tab.Type("exit\r")
	tab.WaitText(harness.Patience, "#state", "Press Enter for a new one")
	tab.Type("\r")
	waitConnected(tab)
	require.NotEqual(t, address, tab.Eval("location.pathname + location.search"))
	command(tab, "echo new ${MARK:-shell}", "new shell")
	tab.RequireQuiet()
}

// clickRun lets a link's command run.
func clickRun(tab *harness.Tab) {
	tab.Do(chromedp.Click("dialog button[value=run]", chromedp.ByQuery))
}

// columns is how many cells wide a terminal is, as its script has told the shell.
func columns(t *testing.T, tab *harness.Tab) string {
	t.Helper()
	width, err := strconv.ParseFloat(tab.Eval("document.querySelector('.xterm-screen').getBoundingClientRect().width"), 64)
	require.NoError(t, err)
	cell, err := strconv.ParseFloat(tab.Eval(
		"(() => { const r = document.querySelector('.xterm-helper-textarea').style; return parseFloat(r.width) || 0 })()"), 64)
	require.NoError(t, err)
	require.NotZero(t, cell)
	return strconv.Itoa(int(width/cell + 0.5))
}

// colour is that of the first piece of a terminal's text that is this.
func colour(tab *harness.Tab, text string) string {
	return tab.Eval(fmt.Sprintf(
		"getComputedStyle([...document.querySelectorAll('.xterm-rows span')].find((s) => s.textContent === %q)).color", text))
}

func TestBrowserTerminalRunsProgramsThatTakeTheScreen(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	chromium, tab := signedInTab(site)
	// Both ways in which agents keep shells.
	for _, backend := range []string{"screen", "buffered"} {
		tab.Size(1000, 700, "dark")
		showTerminal(tab, terminalPath+"?backend_type="+backend)
		command(tab, "cd $(mktemp -d); echo before $((1+1))", "before 2")
		tab.Type("vi -u NONE letter\r")
		waitScreen(tab, "~")
		tab.Type("ihello from vi")
		waitScreen(tab, "hello from vi")
		tab.Shoot("terminal-vi-" + backend)

		tab.Do(chromedp.Reload())
		waitConnected(tab)
		waitScreen(tab, "hello from vi")
		waitScreen(tab, "~")
		require.Equal(t, "false", tab.Eval(onScreen("before 2")), "the screen of vi is not drawn upon another")
		tab.Type(kb.Escape + ":wq\r")
		tab.WaitFor(harness.Patience, "!("+onScreen("~")+")")
		command(tab, "cat letter; echo $((3+4)) done", "7 done")
		waitScreen(tab, "hello from vi")

		tab.Type("tmux -S ./socket -f /dev/null new -s here 'echo in tmux $((5*5)); exec cat'\r")
		waitScreen(tab, "in tmux 25")
		waitScreen(tab, "[here]")
		// Another tab of another size, then this one again.
		address := tab.Eval("location.pathname + location.search")
		second := chromium.Tab()
		second.Size(700, 500, "light")
		showTerminal(second, address)
		waitScreen(second, "in tmux 25")
		second.Close()
		tab.Front()
		tab.Do(chromedp.Reload())
		waitConnected(tab)
		waitScreen(tab, "in tmux 25")
		waitScreen(tab, "[here]")
		tab.Shoot("terminal-tmux-" + backend)
		tab.Chord('c', input.ModifierCtrl)
		waitScreen(tab, "[exited]")
	}
	tab.RequireQuiet()
}

func TestBrowserTerminalDrawsCopiesAndPastes(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	_, tab := signedInTab(site)
	tab.MayCopy()
	tab.Size(1000, 700, "dark")
	// GNU screen, which agents use where it is installed, keeps such sequences to itself.
	showTerminal(tab, terminalPath+"?backend_type=buffered")

	command(tab, `printf '\033[38;2;12;200;34mgreen\033[0m\n'`, "green")
	require.Equal(t, "rgb(12, 200, 34)", colour(tab, "green"))

	// A program puts text on the clipboard (OSC 52).
	tab.Type(`printf '\033]52;c;%s\007' $(printf 'from a program' | base64)` + "\r")
	tab.WaitClipboard("from a program")
	// A selection, by a double click and the keys that terminals have for it.
	tab.Type("clear\r")
	command(tab, "echo select$((10*10))this", "select100this")
	tab.DoubleClickText("select100this")
	tab.Chord('C', input.ModifierCtrl)
	tab.WaitClipboard("select100this")

	// A long paste arrives whole.
	tab.Type("clear\r")
	command(tab, "stty -echo; echo re''ady; cat > pasted", "ready")
	tab.Paste(strings.Repeat(strings.Repeat("ä", 200)+"\n", 50))
	tab.Chord('d', input.ModifierCtrl)
	command(tab, "stty echo; echo size $(wc -c < pasted)", "size 20050")
	tab.RequireQuiet()
}

func TestBrowserTerminalAsksBeforeALinkRunsAnything(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	_, tab := signedInTab(site)
	touched := agent.Home + "/touched"
	path := terminalPath + "?command=" + "echo%20ran%20%3E%3E%20touched%3B%20echo%20it%20ran%3B%20sleep%201000"

	tab.Open(path)
	tab.WaitText(harness.Patience, "dialog[open] #command", "echo ran >> touched; echo it ran; sleep 1000")
	tab.Shoot("terminal-command")
	tab.Do(chromedp.Click("dialog button[value=shell]", chromedp.ByQuery))
	waitConnected(tab)
	command(tab, "echo just a $((1*1)) shell", "just a 1 shell")
	require.NoFileExists(t, touched)

	// A link cannot bring its own answer along.
	tab.Open(path + "&reconnect=11111111-2222-4333-8444-555555555555")
	tab.WaitText(harness.Patience, "dialog[open] #command", "it ran")
	clickRun(tab)
	waitScreen(tab, "it ran")
	require.Equal(t, "ran\n", harness.WaitFile(t, touched))
	require.NotContains(t, tab.Eval("location.search"), "11111111")

	// A reload returns to what runs, and neither asks nor runs it again.
	tab.Do(chromedp.Reload())
	waitConnected(tab)
	waitScreen(tab, "it ran")
	require.Equal(t, "ran\n", harness.WaitFile(t, touched))
	tab.RequireQuiet()
}

func TestBrowserTerminalComesBack(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, tab := signedInTab(site)
	tab.Open(terminalPath)
	tab.WaitText(harness.Patience, "#state", "The agent is away")
	tab.Shoot("terminal-away")
	site.StartAgent(harness.AgentOptions{})
	waitConnected(tab)
	command(tab, "MARK=kept; echo $((6*7))", "42")

	site.Kill()
	tab.WaitText(harness.Patience, "#state", "Trying again")
	site.StartAgain()
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	waitConnected(tab)
	command(tab, "echo $MARK over a restart", "kept over a restart")
	tab.Forgive()
	tab.RequireQuiet()
}

func TestBrowserTerminalClosesWhenItsPersonSignsOut(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	chromium, tab := signedInTab(site)
	showTerminal(tab, terminalPath)
	command(tab, "echo secret $((6*7))", "secret 42")

	other := chromium.Tab()
	other.Open("/")
	other.Do(chromedp.Click("form[action='/logout'] button", chromedp.ByQuery))
	other.WaitFor(harness.Patience, "location.pathname === '/login'")
	tab.Front()
	tab.WaitText(harness.Patience, "#state", "You are signed out")
	require.Equal(t, "false", tab.Eval(onScreen("secret 42")))
	tab.Shoot("terminal-signed-out")
	tab.Forgive()
	tab.RequireQuiet()

	tab.Do(chromedp.Click("main > a.button", chromedp.ByQuery))
	tab.WaitFor(harness.Patience, "location.pathname === '/login'")
	tab.SignIn(harness.Owner, browserPassword)
	waitConnected(tab)
	waitScreen(tab, "secret 42")
}

func TestBrowserKeepsForeignPagesOut(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	chromium, tab := signedInTab(site)
	// Another port of the same host: to browsers it is the same site, so that the cookie goes along.
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<title>foreign</title>"))
	}))
	defer foreign.Close()
	try := func(tab *harness.Tab) string {
		return tab.EvalAsync(fmt.Sprintf(`new Promise((done) => {
			const socket = new WebSocket(%q);
			socket.onopen = () => done('open');
			socket.onerror = () => done('refused');
		})`, "ws://"+site.URL.Host+"/api/v2/workspaceagents/"+site.AgentID.String()+
			"/pty?reconnect=11111111-2222-4333-8444-555555555555&height=24&width=80"))
	}
	require.Equal(t, "open", try(tab), "a page of the server's own")
	stranger := chromium.Tab()
	stranger.OpenURL(foreign.URL)
	require.Equal(t, "foreign", stranger.Eval("document.title"))
	require.Equal(t, "refused", try(stranger))
	// Nor can it put a page of ours into its own.
	stranger.Eval(fmt.Sprintf(`(() => { const frame = document.createElement('iframe'); frame.src = %q; document.body.append(frame); return 1 })()`,
		site.URL.String()+terminalPath))
	harness.Eventually(t, harness.Patience, func() error {
		if !stranger.ComplainedOf("frame-ancestors") && !stranger.ComplainedOf("X-Frame-Options") {
			return fmt.Errorf("the frame was not refused")
		}
		return nil
	})
}
