package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/websocket"

	"moorline.test/interop/internal/harness"
)

// metadataAgent declares one value of each kind. `order` is the reverse of the
// keys' own order, so that a server that sorts by key is found out.
const metadataAgent = `
[[workspace.agent.metadata]]
key = "c-counter"
display_name = "Counter"
script = "echo x >> @SCRATCH@/count; wc -l < @SCRATCH@/count"
interval = 1
timeout = 5
order = 1

[[workspace.agent.metadata]]
key = "b-fails"
display_name = "Fails"
script = "echo half an answer; exit 3"
interval = 1
timeout = 5
order = 2

[[workspace.agent.metadata]]
key = "a-rare"
display_name = "Rare"
script = "echo y >> @SCRATCH@/rare; echo rare"
interval = 60
timeout = 5
order = 3

[[workspace.agent.metadata]]
key = "slow"
display_name = "Slow"
script = "exec sleep 300"
interval = 60
timeout = 1
order = 4
`

// metadataByKey is the last state of each value.
type metadataByKey map[string]codersdk.WorkspaceAgentMetadata

// settled says what is still missing until every kind of value was collected.
func (m metadataByKey) settled() error {
	switch {
	case m.number("c-counter") < 3:
		return fmt.Errorf("the counter is at %q", m["c-counter"].Result.Value)
	case m["b-fails"].Result.Error == "":
		return fmt.Errorf("no error for the failing script")
	case m["a-rare"].Result.Value == "":
		return fmt.Errorf("no value for the rare script")
	case m["slow"].Result.Error == "":
		return fmt.Errorf("no error for the slow script")
	}
	return nil
}

// number is a value that a counting script printed, 0 before the first.
func (m metadataByKey) number(key string) int {
	n, err := strconv.Atoi(strings.TrimSpace(m[key].Result.Value))
	if err != nil {
		return 0
	}
	return n
}

func byKey(list []codersdk.WorkspaceAgentMetadata) metadataByKey {
	values := metadataByKey{}
	for _, value := range list {
		values[value.Description.Key] = value
	}
	return values
}

func TestMetadataIsCollectedOnTimeAndWatchedBySSE(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, metadataAgent)
	ctx := harness.Context(t, 2*harness.Patience)
	updates, failed := site.Client.WatchWorkspaceAgentMetadata(ctx, site.AgentID)

	next := func() []codersdk.WorkspaceAgentMetadata {
		t.Helper()
		select {
		case update := <-updates:
			return update
		case err := <-failed:
			require.NoError(t, err, "the stream must stay open")
		case <-ctx.Done():
			require.Fail(t, "no metadata event")
		}
		return nil
	}

	first := next()
	keys := []string{}
	for _, value := range first {
		keys = append(keys, value.Description.Key)
		require.Empty(t, value.Result.Value)
		require.True(t, value.Result.CollectedAt.IsZero(), "never collected is Go's zero time")
	}
	require.Equal(t, []string{"c-counter", "b-fails", "a-rare", "slow"}, keys, "display order, not key order")
	require.EqualValues(t, 60, first[2].Description.Interval, "seconds")
	require.EqualValues(t, 1, first[3].Description.Timeout, "seconds")
	require.Equal(t, "Rare", first[2].Description.DisplayName)

	agent := site.StartAgent(harness.AgentOptions{})
	started := time.Now()
	var last metadataByKey
	for last = byKey(next()); last.settled() != nil; last = byKey(next()) {
	}
	took := time.Since(started)

	require.Contains(t, last["b-fails"].Result.Value, "half an answer")
	require.WithinDuration(t, time.Now(), last["c-counter"].Result.CollectedAt, harness.Patience)
	require.Less(t, last["c-counter"].Result.Age, int64(30))

	// The interval reaches the agent in the right unit: too small and it would
	// spin, too large and the counter would never have got to three.
	require.Equal(t, 1, lineCount(t, site.Scratch("rare")), "an interval of 60 s means once in %v", took)
	require.LessOrEqual(t, lineCount(t, site.Scratch("count")), int(took.Seconds())+2)
	require.NoError(t, agent.Alive())
	require.Zero(t, agent.Count(harness.LogConnError))
}

func TestMetadataIsWatchedByWebSocket(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, metadataAgent)
	site.StartAgent(harness.AgentOptions{})
	ctx := harness.Context(t, 2*harness.Patience)

	socket := dialOneWay(ctx, t, site, fmt.Sprintf("/api/v2/workspaceagents/%s/watch-metadata-ws", site.AgentID))
	for {
		kind, message, err := socket.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, websocket.MessageText, kind)
		var event struct {
			Type codersdk.ServerSentEventType      `json:"type"`
			Data []codersdk.WorkspaceAgentMetadata `json:"data"`
		}
		require.NoError(t, json.Unmarshal(message, &event), string(message))
		// A ping event here would show as "unavailable" in an editor's status line.
		require.Equal(t, codersdk.ServerSentEventTypeData, event.Type)
		require.Len(t, event.Data, 4)
		if byKey(event.Data).settled() == nil {
			return
		}
	}
}

func TestMetadataIsStillThereAfterTheAgentHasGone(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.metadata]]
key = "once"
display_name = "Once"
script = "echo here"
interval = 0
timeout = 3
`)
	agent := site.StartAgent(harness.AgentOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), 2*harness.Patience)
	defer cancel()
	updates, failed := site.Client.WatchWorkspaceAgentMetadata(ctx, site.AgentID)
	collected := func(update []codersdk.WorkspaceAgentMetadata) bool {
		return strings.TrimSpace(byKey(update)["once"].Result.Value) == "here"
	}
	gone := false
	for {
		select {
		case update := <-updates:
			if gone {
				require.True(t, collected(update))
				return
			}
			if collected(update) {
				agent.Kill()
				site.WaitStatus(codersdk.WorkspaceAgentDisconnected, promptly)
				gone = true
				// Whatever was sent before that moment does not count.
				for len(updates) > 0 {
					<-updates
				}
			}
		case err := <-failed:
			require.NoError(t, err, "the stream does not end with the agent")
		case <-ctx.Done():
			require.Fail(t, "no metadata")
		}
	}
}

// dialOneWay opens a WebSocket that only the server writes to, as browsers do:
// with the session as cookie.
func dialOneWay(ctx context.Context, t *testing.T, site *harness.Site, path string) *websocket.Conn {
	t.Helper()
	header := http.Header{"Cookie": {codersdk.SessionTokenCookie + "=" + site.Client.SessionToken()}}
	//nolint:bodyclose // the library owns the body of an upgrade
	socket, _, err := websocket.Dial(ctx, site.Path("%s", path), &websocket.DialOptions{HTTPHeader: header})
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.CloseNow() })
	return socket
}

func lineCount(t *testing.T, path string) int {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.Count(string(content), "\n")
}
