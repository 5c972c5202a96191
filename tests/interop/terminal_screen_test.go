package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/harness"
)

// These tests are failure story 33, with both ways in which agents keep shells; browser has vi and tmux.

// replayBytes is what agents keep of a buffered shell's output (agent/reconnectingpty/buffered.go, v2.24.0).
const replayBytes = 64 << 10

var backends = []string{"buffered", "screen"}

// outcome waits until a terminal has ended or has printed this.
func (s *terminal) outcome(what string) error {
	s.t.Helper()
	deadline := time.After(harness.Patience)
	for {
		s.mu.Lock()
		err := s.err
		s.mu.Unlock()
		if err != nil || strings.Contains(s.text(), what) {
			return err
		}
		select {
		case <-s.more:
		case <-deadline:
			require.Fail(s.t, "a terminal hangs", "it neither ends nor prints %q: %q", what, s.text())
		}
	}
}

// TestAShellThatEndsWhileOneComesBack: whoever comes at that moment has a shell, or an end; never silence.
func TestAShellThatEndsWhileOneComesBack(t *testing.T) {
	t.Parallel()
	site, agent := readySite(t, "")
	for _, backend := range backends {
		alive := 0
		for round := range 15 {
			opts := ptyOf(site)
			opts.BackendType = backend
			leaving := openTerminal(t, site.Client, opts)
			leaving.sum(round, 1)
			leaving.typing("exit\r")
			time.Sleep(time.Duration(round) * 2 * time.Millisecond)
			coming := openTerminal(t, site.Client, opts)
			// The end of the shell may come between any two of its bytes; typing into it is no error of the test.
			_, _ = coming.conn.Write([]byte(`{"data":"echo sum=$((1000+7))\r"}`))
			if coming.outcome("sum=1007") == nil {
				alive++
			}
			require.Error(t, leaving.ended())
			coming.close()
		}
		t.Logf("%s: %d of 15 got a new shell, the others the end of the old one", backend, alive)
	}
	require.NoError(t, agent.Alive())
	openTerminal(t, site.Client, ptyOf(site)).sum(9, 9)
}

// TestTwoSizesOnOneShell: both see the same; a buffered shell has the size of who has said one last.
func TestTwoSizesOnOneShell(t *testing.T) {
	t.Parallel()
	site, agent := readySite(t, "")
	for _, backend := range backends {
		opts := ptyOf(site)
		opts.BackendType = backend
		wide := openTerminal(t, site.Client, opts)
		wide.sum(1, 1)
		opts.Width, opts.Height = 72, 20
		narrow := openTerminal(t, site.Client, opts)
		narrow.waitFor("sum=2")
		// Into a file: GNU screen draws only what differs from what was there.
		sized := func(by *terminal, want string) {
			harness.Eventually(t, harness.Patience, func() error {
				by.typing("stty size >size\r")
				time.Sleep(200 * time.Millisecond)
				got, err := os.ReadFile(filepath.Join(agent.Home, "size"))
				if string(got) != want+"\n" {
					return fmt.Errorf("%s: the shell has the size %q, not %s (%v)", backend, got, want, err)
				}
				return nil
			})
		}
		// GNU screen leaves the shell as it is while two look at it.
		if backend == "buffered" {
			sized(narrow, "20 72")
			wide.send(workspacesdk.ReconnectingPTYRequest{Height: 33, Width: 111})
			sized(wide, "33 111")
			narrow.send(workspacesdk.ReconnectingPTYRequest{Height: 21, Width: 75})
			sized(narrow, "21 75")
		} else {
			sized(narrow, "30 100")
		}
		wide.sum(20, 20)
		narrow.waitFor("sum=40")
		narrow.close()
		wide.sum(30, 30)
	}
}

// TestAReplayBeginsAnywhere: what an agent has kept of a long output begins in the middle of a character or of an
// escape sequence. It is passed on byte by byte.
func TestAReplayBeginsAnywhere(t *testing.T) {
	t.Parallel()
	site, _ := readySite(t, "")
	opts := ptyOf(site)
	opts.Command = `sh -c 'stty -echo; for i in $(seq 9000); do printf "\033[38;5;196m€%s\033[0m"; done; echo; echo over; exec cat'`
	shell := openTerminal(t, site.Client, opts)
	whole := shell.waitFor("over\r\n")
	require.Greater(t, len(whole), replayBytes)
	cuts := map[string]bool{}
	// Each byte more moves the place at which the next replay begins.
	for range 18 {
		shell.typing("\r")
		before := len(whole)
		harness.Eventually(t, harness.Patience, func() error {
			if whole = shell.text(); len(whole) < before+2 {
				return fmt.Errorf("the line does not come back")
			}
			return nil
		})
		again := openTerminal(t, site.Client, opts)
		harness.Eventually(t, harness.Patience, func() error {
			if got := len(again.text()); got < replayBytes {
				return fmt.Errorf("%d bytes have come", got)
			}
			return nil
		})
		want := whole[len(whole)-replayBytes:]
		require.True(t, again.text() == want, "the replay is not the end of what was printed")
		switch at := len(whole) - replayBytes; {
		case whole[at]&0xc0 == 0x80:
			cuts["character"] = true
		case strings.LastIndex(whole[:at], "\x1b") > strings.LastIndexAny(whole[:at], "m"):
			cuts["escape"] = true
		}
		again.close()
	}
	require.Len(t, cuts, 2, "both kinds were met: %v", cuts)
}

// rows is what a terminal shows.
func rows(tab *harness.Tab) string {
	return tab.Eval(`[...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent.trimEnd()).join('\n')`)
}

// waitRows waits until a terminal shows this again.
func waitRows(t *testing.T, tab *harness.Tab, want string) {
	t.Helper()
	harness.Eventually(t, harness.Patience, func() error {
		if got := rows(tab); got != want {
			return fmt.Errorf("it shows\n%s\ninstead of\n%s", got, want)
		}
		return nil
	})
}

func TestBrowserShowsTheSameScreenAfterALongOutput(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	_, tab := signedInTab(site)
	tab.Size(1000, 700, "dark")
	for _, backend := range backends {
		showTerminal(tab, terminalPath+"?backend_type="+backend)
		command(tab, "cd; echo before $((1+1))", "before 2")
		// More than is kept, of which the beginning is cut anywhere.
		for pad := range 3 {
			tab.Type(fmt.Sprintf(`clear; printf %%%ds; for i in $(seq 3000); do printf '\033[38;5;196m\342\202\254\303\244\360\237\230\200 %%s\033[0m\n' $i; done; echo all $((%d+1))`+"\r", pad+1, pad))
			waitScreen(tab, fmt.Sprintf("all %d", pad+1))
			shown := rows(tab)
			require.Contains(t, shown, "€ä😀 3000")
			tab.Do(chromedp.Reload())
			waitConnected(tab)
			waitRows(t, tab, shown)
		}
		// A program that takes the screen, and has drawn so much that its beginning is not kept.
		lines := strings.Builder{}
		for n := range 5000 {
			fmt.Fprintf(&lines, "line %d %s\n", n, strings.Repeat("ä", 70))
		}
		require.NoError(t, os.WriteFile(filepath.Join(agent.Home, "long"), []byte(lines.String()), 0o600))
		tab.Type("vi -u NONE long; echo le''ft\r")
		waitScreen(tab, "line 0 ")
		for range 40 {
			tab.Chord('f', input.ModifierCtrl)
		}
		tab.Type("1500Gzt")
		tab.WaitFor(harness.Patience, `document.querySelector('.xterm-rows > div').textContent.startsWith('line 1499')`)
		shown := rows(tab)
		tab.Do(chromedp.Reload())
		waitConnected(tab)
		waitRows(t, tab, shown)
		// Another size, and back.
		tab.Size(800, 500, "dark")
		tab.WaitFor(harness.Patience, onScreen("line 1499 "))
		tab.Size(1000, 700, "dark")
		waitRows(t, tab, shown)
		tab.Type(":q\r")
		waitScreen(tab, "left")
		command(tab, "clear; echo after $((3+4))", "after 7")
	}
	tab.RequireQuiet()
}

// TestBrowserAnswersAQuestionOnce: programs ask terminals what they are. The question is in what an agent has kept,
// and whoever comes back must not answer it again, into whatever runs now.
func TestBrowserAnswersAQuestionOnce(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	_, tab := signedInTab(site)
	showTerminal(tab, terminalPath+"?backend_type=buffered")
	got := filepath.Join(agent.Home, "got")
	tab.Type("cd; stty -echo; printf '\\033[c\\033[6n'; echo as''ked; cat >got\r")
	waitScreen(tab, "asked")
	time.Sleep(500 * time.Millisecond)
	tab.Chord('d', input.ModifierCtrl) // gives cat what was typed so far
	once := harness.WaitFile(t, got)
	require.Contains(t, once, "\x1b[?")
	require.Contains(t, once, "R")
	for range 3 {
		tab.Do(chromedp.Reload())
		waitConnected(tab)
		waitScreen(tab, "asked")
	}
	time.Sleep(500 * time.Millisecond)
	tab.Type("typed\r")
	harness.Eventually(t, harness.Patience, func() error {
		content, err := os.ReadFile(got)
		if err != nil || !strings.Contains(string(content), "typed") {
			return fmt.Errorf("%q, %v", content, err)
		}
		require.Equal(t, once+"typed\n", string(content))
		return nil
	})
	// A question that is asked now is answered.
	tab.Chord('d', input.ModifierCtrl)
	tab.Type("stty echo; printf '\\033[6n'; read -s -d R place; echo \"at ${place#*[}\"\r")
	tab.WaitFor(harness.Patience, `[...document.querySelectorAll('.xterm-rows > div')].some((row) => /^at \d+;1/.test(row.textContent))`)
	tab.RequireQuiet()
}
