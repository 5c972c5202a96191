package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/harness"
)

// terminal is a shell of an agent through the server, as a browser has it.
type terminal struct {
	t    testing.TB
	conn net.Conn

	mu     sync.Mutex
	output bytes.Buffer
	err    error
	more   chan struct{}
}

func openTerminal(t testing.TB, client *codersdk.Client, opts workspacesdk.WorkspaceAgentReconnectingPTYOpts) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	conn, err := workspacesdk.New(client).AgentReconnectingPTY(ctx, opts)
	require.NoError(t, err)
	return readTerminal(t, conn)
}

func readTerminal(t testing.TB, conn net.Conn) *terminal {
	term := &terminal{t: t, conn: conn, more: make(chan struct{}, 1)}
	t.Cleanup(term.close)
	go term.read()
	return term
}

func (s *terminal) close() { _ = s.conn.Close() }

func (s *terminal) read() {
	buffer := make([]byte, 32*1024)
	for {
		n, err := s.conn.Read(buffer)
		s.mu.Lock()
		s.output.Write(buffer[:n])
		if err != nil {
			s.err = err
		}
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (s *terminal) send(request workspacesdk.ReconnectingPTYRequest) {
	s.t.Helper()
	message, err := json.Marshal(request)
	require.NoError(s.t, err)
	_, err = s.conn.Write(message)
	require.NoError(s.t, err)
}

func (s *terminal) typing(text string) {
	s.t.Helper()
	s.send(workspacesdk.ReconnectingPTYRequest{Data: text})
}

func (s *terminal) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

// waitFor waits until the output holds this, and returns all of it.
func (s *terminal) waitFor(what string) string {
	s.t.Helper()
	return s.waitWithin(what, harness.Patience)
}

func (s *terminal) waitWithin(what string, within time.Duration) string {
	s.t.Helper()
	deadline := time.After(within)
	for seen := 0; ; {
		s.mu.Lock()
		// What was looked through is not looked through again: there may be megabytes.
		found := bytes.Contains(s.output.Bytes()[max(0, seen-len(what)):], []byte(what))
		seen = s.output.Len()
		err := s.err
		s.mu.Unlock()
		if found {
			return s.text()
		}
		if err != nil {
			require.NoError(s.t, err, "%q does not come: %q", what, s.text())
		}
		select {
		case <-s.more:
		case <-deadline:
			require.Fail(s.t, "nothing comes", "%q is not in %q", what, s.text())
		}
	}
}

// keys types one key after another into a program that does nothing but to be typed into, and says how long their
// echoes took, the shortest first.
func (s *terminal) keys(count int) []time.Duration {
	s.t.Helper()
	var took []time.Duration
	for range count {
		before := len(s.text())
		began := time.Now()
		s.typing("k")
		for len(s.text()) == before {
			select {
			case <-s.more:
			case <-time.After(harness.Patience):
				require.Fail(s.t, "a key has no echo")
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}

// ended waits for the end of the connection and says how that was.
func (s *terminal) ended() error {
	s.t.Helper()
	deadline := time.After(harness.Patience)
	for {
		s.mu.Lock()
		err := s.err
		s.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-s.more:
		case <-deadline:
			require.Fail(s.t, "the terminal does not end", "it says %q", s.text())
		}
	}
}

// sum makes the shell print something that is not what was typed.
func (s *terminal) sum(a, b int) {
	s.t.Helper()
	s.typing(fmt.Sprintf("echo sum=$((%d+%d))\r", a, b))
	s.waitFor(fmt.Sprintf("sum=%d", a+b))
}

func readySite(t testing.TB, agent string) (*harness.Site, *harness.Agent) {
	t.Helper()
	site := harness.NewSite(t, agent)
	running := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	return site, running
}

func ptyOf(site *harness.Site) workspacesdk.WorkspaceAgentReconnectingPTYOpts {
	return workspacesdk.WorkspaceAgentReconnectingPTYOpts{
		AgentID: site.Agent().ID, Reconnect: uuid.New(), Width: 100, Height: 30, BackendType: "buffered",
	}
}

func TestTerminalThroughTheServer(t *testing.T) {
	t.Parallel()
	site, _ := readySite(t, "")
	opts := ptyOf(site)
	first := openTerminal(t, site.Client, opts)
	first.sum(20, 22)
	first.send(workspacesdk.ReconnectingPTYRequest{Height: 41, Width: 137})
	first.typing("stty size\r")
	first.waitFor("41 137")

	// The same id is the same shell, with what it has printed.
	first.typing("kept=yes\r") // and gone at once
	first.close()
	again := openTerminal(t, site.Client, opts)
	again.waitFor("sum=42")
	again.typing("echo kept=$kept.\r")
	again.waitFor("kept=yes.")

	// Two at once see the same.
	other := openTerminal(t, site.Client, opts)
	other.waitFor("kept=yes.")
	again.sum(1, 2)
	other.waitFor("sum=3")

	// Another id is another shell.
	fresh := ptyOf(site)
	stranger := openTerminal(t, site.Client, fresh)
	stranger.typing("echo kept=$kept.\r")
	stranger.waitFor("kept=.")

	stranger.typing("exit\r")
	require.ErrorIs(t, stranger.ended(), io.EOF, "a normal closure")
}
