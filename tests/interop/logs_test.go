package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/agentsdk"

	"moorline.test/interop/internal/harness"
)

// outputs are the texts of the lines.
func outputs(logs []codersdk.WorkspaceAgentLog) []string {
	texts := []string{}
	for _, line := range logs {
		texts = append(texts, line.Output)
	}
	return texts
}

// waitLines waits until the agent has at least n stored lines.
func waitLines(t *testing.T, site *harness.Site, n int) []codersdk.WorkspaceAgentLog {
	t.Helper()
	var logs []codersdk.WorkspaceAgentLog
	harness.Eventually(t, harness.Patience, func() error {
		logs = site.Logs(0)
		if len(logs) < n {
			return fmt.Errorf("%d log lines, not %d: %q", len(logs), n, outputs(logs))
		}
		return nil
	})
	return logs
}

func TestStartScriptLogsKeepOrderLevelAndSource(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.script]]
display_name = "Install tools"
icon = "/icon/code.svg"
run_on_start = true
script = '''
for i in 1 2 3 4 5; do echo "out $i"; done
for i in 1 2 3; do echo "err $i" >&2; done
'''
`)
	require.Equal(t, []codersdk.WorkspaceAgentLog{}, site.Logs(0), "[] and not null before the first line")
	site.StartAgent(harness.AgentOptions{})
	logs := waitLines(t, site, 8)
	require.Len(t, logs, 8)

	// The two pipes are read independently, so order is only promised in each.
	byLevel := map[codersdk.LogLevel][]string{}
	length := 0
	for i, line := range logs {
		byLevel[line.Level] = append(byLevel[line.Level], line.Output)
		length += len(line.Output)
		require.WithinDuration(t, time.Now(), line.CreatedAt, time.Minute)
		if i > 0 {
			require.Greater(t, line.ID, logs[i-1].ID)
		}
	}
	require.Equal(t, map[codersdk.LogLevel][]string{
		codersdk.LogLevelInfo:  {"out 1", "out 2", "out 3", "out 4", "out 5"},
		codersdk.LogLevelError: {"err 1", "err 2", "err 3"},
	}, byLevel)

	agent := site.Agent()
	require.EqualValues(t, length, agent.LogsLength)
	require.False(t, agent.LogsOverflowed)
	require.Len(t, agent.LogSources, 1)
	source := agent.LogSources[0]
	require.Equal(t, "Install tools", source.DisplayName)
	require.Equal(t, "/icon/code.svg", source.Icon)
	require.Equal(t, site.AgentID, source.WorkspaceAgentID)
	require.Equal(t, agent.Scripts[0].LogSourceID, source.ID)
	for _, line := range logs {
		require.Equal(t, source.ID, line.SourceID)
	}
}

func TestLogsArePagedByAfterOnEveryAlias(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	logs := writeLogs(t, site, "one", "two", "three", "four")

	require.Equal(t, []string{"three", "four"}, outputs(site.Logs(logs[1].ID)))
	require.Empty(t, site.Logs(logs[3].ID))
	for _, path := range []string{"logs", "startup-logs"} {
		require.Equal(t, []string{"one", "two", "three", "four"}, outputs(getLogs(t, site, path, "")), path)
		require.Equal(t, []string{"four"}, outputs(getLogs(t, site, path, fmt.Sprintf("after=%d", logs[2].ID))), path)
	}

	// `before` is in upstream's documentation but its v2.24.0 server ignores it.
	// Serving it is allowed; losing or reordering lines is not.
	before := outputs(getLogs(t, site, "logs", fmt.Sprintf("before=%d", logs[2].ID)))
	require.Contains(t, [][]string{{"one", "two"}, {"one", "two", "three", "four"}}, before)

	for _, bad := range []string{"after=-1", "after=x"} {
		res, err := site.Client.Request(harness.Context(t, harness.Patience), http.MethodGet, logsPath(site, "logs", bad), nil)
		require.NoError(t, err)
		refused := codersdk.ReadBodyAsError(res)
		res.Body.Close()
		require.Equal(t, http.StatusBadRequest, harness.Status(refused), bad)
	}
}

func TestFollowDeliversLiveLines(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.script]]
display_name = "Talk"
run_on_start = true
script = '''
echo before
while [ ! -e @SCRATCH@/go ]; do sleep 0.1; done
echo after
'''
`)
	ctx := harness.Context(t, 2*harness.Patience)
	batches, closer, err := site.Client.WorkspaceAgentLogsAfter(ctx, site.AgentID, 0, true)
	require.NoError(t, err)
	defer closer.Close()
	site.StartAgent(harness.AgentOptions{})

	var got []codersdk.WorkspaceAgentLog
	follow := func(n int) {
		t.Helper()
		for len(got) < n {
			select {
			case batch, open := <-batches:
				require.True(t, open, "the stream ended after %q", outputs(got))
				got = append(got, batch...)
			case <-ctx.Done():
				require.Fail(t, "no more lines", "have %q", outputs(got))
			}
		}
	}
	follow(1)
	require.Equal(t, []string{"before"}, outputs(got))
	require.NoError(t, os.WriteFile(site.Scratch("go"), nil, 0o600))
	follow(2)
	require.Equal(t, []string{"before", "after"}, outputs(got))

	// A second follower that starts later gets only what it asks for.
	late, lateCloser, err := site.Client.WorkspaceAgentLogsAfter(ctx, site.AgentID, got[0].ID, true)
	require.NoError(t, err)
	defer lateCloser.Close()
	select {
	case batch := <-late:
		require.Equal(t, []string{"after"}, outputs(batch))
	case <-ctx.Done():
		require.Fail(t, "the first message must come at once")
	}
}

func TestLongBacklogFitsTheFollowersReadLimit(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	client := site.AgentClient(site.Token)
	ctx := harness.Context(t, 2*harness.Patience)
	const lines = 400
	var batch []agentsdk.Log
	for i := range lines {
		batch = append(batch, agentsdk.Log{CreatedAt: time.Now(), Level: codersdk.LogLevelInfo, Output: fmt.Sprintf("%0900d", i)})
	}
	//nolint:staticcheck // the old call is what old senders use
	require.NoError(t, client.PatchLogs(ctx, agentsdk.PatchLogs{Logs: batch}))

	// The client library closes the socket when one message is over 32 KiB.
	batches, closer, err := site.Client.WorkspaceAgentLogsAfter(ctx, site.AgentID, 0, true)
	require.NoError(t, err)
	defer closer.Close()
	for got := 0; got < lines; {
		select {
		case batch, open := <-batches:
			require.True(t, open, "the stream ended after %d lines", got)
			for _, line := range batch {
				require.Equal(t, fmt.Sprintf("%0900d", got), line.Output)
				got++
			}
		case <-ctx.Done():
			require.Fail(t, "backlog incomplete", "%d lines", got)
		}
	}
}

// TestRESTLogSendersAreServed covers programs that still send logs over REST.
func TestRESTLogSendersAreServed(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	client := site.AgentClient(site.Token)
	ctx := harness.Context(t, harness.Patience)

	id := uuid.New()
	source, err := client.PostLogSource(ctx, agentsdk.PostLogSourceRequest{ID: id, DisplayName: "envbuilder", Icon: "/x.png"})
	require.NoError(t, err)
	require.Equal(t, id, source.ID)
	require.Equal(t, site.AgentID, source.WorkspaceAgentID)
	_, err = client.PostLogSource(ctx, agentsdk.PostLogSourceRequest{ID: id, DisplayName: "again", Icon: ""})
	require.NoError(t, err, "posting a known id is no error")

	//nolint:staticcheck // the old call is what old senders use
	err = client.PatchLogs(ctx, agentsdk.PatchLogs{LogSourceID: id, Logs: []agentsdk.Log{
		{CreatedAt: time.Now(), Level: codersdk.LogLevelWarn, Output: "built"},
	}})
	require.NoError(t, err)
	//nolint:staticcheck // as above
	err = client.PatchLogs(ctx, agentsdk.PatchLogs{Logs: []agentsdk.Log{{CreatedAt: time.Now(), Output: "no source"}}})
	require.NoError(t, err)

	logs := site.Logs(0)
	require.Equal(t, []string{"built", "no source"}, outputs(logs))
	require.Equal(t, id, logs[0].SourceID)
	require.Equal(t, codersdk.LogLevelWarn, logs[0].Level)
	require.Equal(t, agentsdk.ExternalLogSourceID, logs[1].SourceID)
	require.Equal(t, codersdk.LogLevelInfo, logs[1].Level)

	names := map[uuid.UUID]string{}
	for _, source := range site.Agent().LogSources {
		names[source.ID] = source.DisplayName
	}
	require.Equal(t, map[uuid.UUID]string{id: "envbuilder", agentsdk.ExternalLogSourceID: "External"}, names)
}

// writeLogs stores lines without an agent process.
func writeLogs(t *testing.T, site *harness.Site, lines ...string) []codersdk.WorkspaceAgentLog {
	t.Helper()
	var batch []agentsdk.Log
	for _, line := range lines {
		batch = append(batch, agentsdk.Log{CreatedAt: time.Now(), Level: codersdk.LogLevelInfo, Output: line})
	}
	//nolint:staticcheck // the old call is what old senders use
	err := site.AgentClient(site.Token).PatchLogs(harness.Context(t, harness.Patience), agentsdk.PatchLogs{Logs: batch})
	require.NoError(t, err)
	logs := site.Logs(0)
	require.Len(t, logs, len(lines))
	return logs
}

func logsPath(site *harness.Site, leaf, query string) string {
	path := fmt.Sprintf("/api/v2/workspaceagents/%s/%s", site.AgentID, leaf)
	if query != "" {
		path += "?" + query
	}
	return path
}

func getLogs(t *testing.T, site *harness.Site, leaf, query string) []codersdk.WorkspaceAgentLog {
	t.Helper()
	res, err := site.Client.Request(context.Background(), http.MethodGet, logsPath(site, leaf, query), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	var logs []codersdk.WorkspaceAgentLog
	require.NoError(t, json.NewDecoder(res.Body).Decode(&logs))
	return logs
}
