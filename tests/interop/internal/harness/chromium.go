package harness

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// EnvShots names a folder for pictures of what the pages look like; none are taken without it.
const EnvShots = "MOORLINE_INTEROP_SHOTS"

// chromiums are the names under which the browser may be installed.
var chromiums = []string{"chromium", "chromium-browser", "google-chrome"}

func chromiumBin() (string, error) {
	for _, name := range chromiums {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("none of %v is installed", chromiums)
}

// Chromium is a real browser without a window, of one person: its tabs share cookies.
type Chromium struct {
	t     testing.TB
	ctx   context.Context
	front *url.URL
}

// Tab is one page of it.
type Tab struct {
	t     testing.TB
	ctx   context.Context
	front *url.URL

	mu sync.Mutex
	// complaints are errors of scripts, of loading and of the pages' own policy.
	complaints []string
	// strangers are addresses of other servers that were asked for anything.
	strangers []string
	asked     int
}

// NewChromium starts one for this server, with a profile of its own; it ends with the test.
func (s *Server) NewChromium() *Chromium {
	t := s.t
	t.Helper()
	bin, err := chromiumBin()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp(s.Dir, "chromium")
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(bin),
		// Tests may run as root in a container, where its sandbox cannot start.
		chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.UserDataDir(profile),
		chromedp.WindowSize(1000, 700),
	)
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return &Chromium{t: t, ctx: ctx, front: s.Front}
}

// Tab opens an empty one. What its page complains of fails the test, unless it was Forgiven.
func (c *Chromium) Tab() *Tab {
	c.t.Helper()
	ctx, end := chromedp.NewContext(c.ctx)
	tab := &Tab{t: c.t, ctx: ctx, front: c.front}
	chromedp.ListenTarget(ctx, tab.listen)
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Logf("the tab shows:\n%s", tab.try("document.body.innerText + '\\n' + location.href"))
		}
		end()
	})
	// Not by Do: the first run opens the tab, which lives as long as that run's context.
	if err := chromedp.Run(ctx, network.Enable(), runtime.Enable(), cdplog.Enable()); err != nil {
		c.t.Fatalf("open a tab: %v", err)
	}
	return tab
}

func (tab *Tab) listen(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	complain := func(format string, args ...any) {
		tab.complaints = append(tab.complaints, fmt.Sprintf(format, args...))
	}
	ask := func(address string) {
		tab.asked++
		target, err := url.Parse(address)
		if err != nil || (target.Host != tab.front.Host && target.Scheme != "about") {
			tab.strangers = append(tab.strangers, address)
		}
	}
	switch event := event.(type) {
	case *network.EventRequestWillBeSent:
		ask(event.Request.URL)
	case *network.EventWebSocketCreated:
		ask(event.URL)
	case *runtime.EventExceptionThrown:
		complain("exception: %s", event.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if event.Type == runtime.APITypeError || event.Type == runtime.APITypeWarning {
			var words []string
			for _, arg := range event.Args {
				words = append(words, string(arg.Value)+arg.Description)
			}
			complain("console: %s", strings.Join(words, " "))
		}
	case *cdplog.EventEntryAdded:
		if event.Entry.Level == cdplog.LevelError || event.Entry.Level == cdplog.LevelWarning {
			complain("%s: %s %s", event.Entry.Source, event.Entry.Text, event.Entry.URL)
		}
	}
}

// RequireQuiet fails when a page complained of anything or asked another server for anything.
func (tab *Tab) RequireQuiet() {
	tab.t.Helper()
	tab.mu.Lock()
	defer tab.mu.Unlock()
	if len(tab.complaints) > 0 || len(tab.strangers) > 0 {
		tab.t.Fatalf("the page complained of %q and asked %q", tab.complaints, tab.strangers)
	}
	if tab.asked == 0 {
		tab.t.Fatal("no request of the page was seen")
	}
}

// ComplainedOf says whether a complaint has this in it.
func (tab *Tab) ComplainedOf(text string) bool {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.ContainsFunc(tab.complaints, func(complaint string) bool { return strings.Contains(complaint, text) })
}

// Forgive forgets failed requests, of which browsers complain themselves when a server or an agent is away.
func (tab *Tab) Forgive() {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	left := tab.complaints[:0]
	for _, complaint := range tab.complaints {
		if !strings.HasPrefix(complaint, "network: ") && !strings.Contains(complaint, "WebSocket connection to") {
			left = append(left, complaint)
		}
	}
	tab.complaints = left
}

// Do runs actions.
func (tab *Tab) Do(actions ...chromedp.Action) {
	tab.t.Helper()
	ctx, end := context.WithTimeout(tab.ctx, Patience)
	defer end()
	if err := chromedp.Run(ctx, actions...); err != nil {
		tab.t.Fatalf("browser: %v", err)
	}
}

// Open goes to a path of the server.
func (tab *Tab) Open(path string) {
	tab.t.Helper()
	tab.Do(chromedp.Navigate(tab.front.String() + path))
}

// OpenURL goes anywhere.
func (tab *Tab) OpenURL(address string) {
	tab.t.Helper()
	tab.Do(chromedp.Navigate(address))
}

// SignIn fills in the form, wherever it leads to.
func (tab *Tab) SignIn(name, password string) {
	tab.t.Helper()
	tab.Do(
		chromedp.SendKeys("#name", name, chromedp.ByQuery),
		chromedp.SendKeys("#password", password, chromedp.ByQuery),
		chromedp.Click("form[action='/login'] button", chromedp.ByQuery),
	)
	tab.WaitFor(Patience, "location.pathname !== '/login'")
}

// Eval is what an expression gives, as text.
func (tab *Tab) Eval(expression string) string {
	tab.t.Helper()
	var text string
	tab.Do(chromedp.Evaluate("String("+expression+")", &text))
	return text
}

// EvalAsync is what the promise that an expression gives comes to.
func (tab *Tab) EvalAsync(expression string) string {
	tab.t.Helper()
	var text string
	tab.Do(chromedp.Evaluate(expression, &text, func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
		return p.WithAwaitPromise(true)
	}))
	return text
}

// WaitClipboard waits until the clipboard holds this.
func (tab *Tab) WaitClipboard(text string) {
	tab.t.Helper()
	Eventually(tab.t, Patience, func() error {
		if got := tab.EvalAsync("navigator.clipboard.readText()"); got != text {
			return fmt.Errorf("the clipboard holds %q, not %q", got, text)
		}
		return nil
	})
}

// DoubleClickText does so in the middle of the first row of a terminal that is this text.
func (tab *Tab) DoubleClickText(text string) {
	tab.t.Helper()
	var place []float64
	tab.Do(chromedp.Evaluate(fmt.Sprintf(`(() => {
		const row = [...document.querySelectorAll('.xterm-rows > div')].find((row) => row.textContent.trim() === %q);
		const box = row.querySelector('span').getBoundingClientRect();
		return [box.left + 20, box.top + box.height / 2];
	})()`, text), &place))
	tab.Do(chromedp.MouseClickXY(place[0], place[1], chromedp.ClickCount(2)))
}

func (tab *Tab) try(expression string) string {
	ctx, end := context.WithTimeout(tab.ctx, 5*time.Second)
	defer end()
	var text string
	if err := chromedp.Run(ctx, chromedp.Evaluate("String("+expression+")", &text)); err != nil {
		return err.Error()
	}
	return text
}

// WaitFor waits until an expression is true; it may meet a page that is being replaced.
func (tab *Tab) WaitFor(within time.Duration, expression string) {
	tab.t.Helper()
	Eventually(tab.t, within, func() error {
		if got := tab.try(expression); got != "true" {
			return fmt.Errorf("%s is %s", expression, got)
		}
		return nil
	})
}

// WaitText waits until an element holds a text.
func (tab *Tab) WaitText(within time.Duration, selector, text string) {
	tab.t.Helper()
	Eventually(tab.t, within, func() error {
		got := tab.try(fmt.Sprintf("document.querySelector(%q)?.innerText", selector))
		if !strings.Contains(got, text) {
			return fmt.Errorf("%s holds %q, not %q", selector, got, text)
		}
		return nil
	})
}

// Type presses keys, one by one, as a keyboard does: chromedp's own way brings each letter twice to a page that
// takes keys before they become letters.
func (tab *Tab) Type(keys string) {
	tab.t.Helper()
	for _, letter := range keys {
		tab.press(letter, 0)
	}
}

// Chord presses a key together with others.
func (tab *Tab) Chord(letter rune, modifiers input.Modifier) {
	tab.t.Helper()
	tab.press(letter, modifiers)
}

func (tab *Tab) press(letter rune, modifiers input.Modifier) {
	tab.t.Helper()
	key, known := kb.Keys[letter]
	if !known {
		tab.t.Fatalf("no keyboard has %q", letter)
	}
	if key.Shift {
		modifiers |= input.ModifierShift
	}
	event := input.DispatchKeyEvent(input.KeyDown).WithKey(key.Key).WithCode(key.Code).WithModifiers(modifiers).
		WithWindowsVirtualKeyCode(key.Windows).WithNativeVirtualKeyCode(key.Native)
	up := *event
	up.Type = input.KeyUp
	if modifiers&^input.ModifierShift == 0 && key.Print {
		event = event.WithText(key.Text).WithUnmodifiedText(key.Unmodified)
	}
	tab.Do(event, &up)
}

// Close shuts it.
func (tab *Tab) Close() {
	tab.t.Helper()
	if err := chromedp.Cancel(tab.ctx); err != nil {
		tab.t.Fatalf("close the tab: %v", err)
	}
}

// Front shows this tab: browsers draw nothing in those that are hidden.
func (tab *Tab) Front() {
	tab.t.Helper()
	tab.Do(page.BringToFront())
}

// Paste puts text on the clipboard and presses the keys that paste it in a terminal; the page must be one that MayCopy.
func (tab *Tab) Paste(text string) {
	tab.t.Helper()
	tab.EvalAsync(fmt.Sprintf("navigator.clipboard.writeText(%q).then(() => 'done')", text))
	key := kb.Keys['V']
	event := input.DispatchKeyEvent(input.KeyDown).WithKey(key.Key).WithCode(key.Code).
		WithModifiers(input.ModifierCtrl | input.ModifierShift).WithWindowsVirtualKeyCode(key.Windows).
		// What the browser does with these keys, unless the page keeps them for itself.
		WithCommands([]string{"paste"})
	tab.Do(event)
}

// Size makes the window so large, and the page light or dark.
func (tab *Tab) Size(width, height int64, scheme string) {
	tab.t.Helper()
	media := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	tab.Do(chromedp.EmulateViewport(width, height), emulation.SetEmulatedMedia().WithFeatures(media))
}

// MayCopy lets pages use the clipboard without asking.
func (tab *Tab) MayCopy() {
	tab.t.Helper()
	kinds := []browser.PermissionType{browser.PermissionTypeClipboardReadWrite, browser.PermissionTypeClipboardSanitizedWrite}
	tab.Do(browser.GrantPermissions(kinds).WithOrigin(tab.front.String()))
}

// Shoot takes a picture, if anybody wants one.
func (tab *Tab) Shoot(name string) {
	tab.t.Helper()
	folder := os.Getenv(EnvShots)
	if folder == "" {
		return
	}
	var picture []byte
	tab.Do(chromedp.FullScreenshot(&picture, 100))
	if err := os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o600); err != nil {
		tab.t.Fatal(err)
	}
}
