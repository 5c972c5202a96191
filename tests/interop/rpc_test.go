package interop

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentproto "github.com/coder/coder/v2/agent/proto"
	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/agentsdk"

	"moorline.test/interop/internal/harness"
)

// maxLogBytes is how much output one agent may store in all.
const maxLogBytes = 1 << 20

// maxLogLine is how many characters of one line are kept.
const maxLogLine = 1024

func TestUpdateStartupAcceptsWhatAgentsSend(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	api := site.MustDial().Agent
	// Upstream refuses the second one, which makes such an agent redial for ever.
	for _, version := range []string{"v2.24.0+abc", "not a version", "", "v0.0.0-devel"} {
		startup := &agentproto.Startup{
			Version:           version,
			ExpandedDirectory: "/home/alice",
			Subsystems: []agentproto.Startup_Subsystem{
				agentproto.Startup_EXECTRACE, agentproto.Startup_ENVBOX, agentproto.Startup_EXECTRACE,
			},
		}
		reply, err := api.UpdateStartup(ctx, &agentproto.UpdateStartupRequest{Startup: startup})
		require.NoError(t, err, "%q", version)
		require.Equal(t, startup.ExpandedDirectory, reply.ExpandedDirectory)
		require.Equal(t, version, reply.Version)
	}
	got := site.Agent()
	require.Equal(t, "v0.0.0-devel", got.Version)
	require.Equal(t, "2.6", got.APIVersion)
	require.Equal(t, []codersdk.AgentSubsystem{codersdk.AgentSubsystemEnvbox, codersdk.AgentSubsystemExectrace}, got.Subsystems)
}

func TestUpdateLifecycleKeepsTheTimesOfTheStart(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	api := site.MustDial().Agent
	at := time.Now().UTC().Truncate(time.Microsecond)
	report := func(state agentproto.Lifecycle_State, after time.Duration) codersdk.WorkspaceAgent {
		t.Helper()
		sent := &agentproto.Lifecycle{State: state, ChangedAt: timestamppb.New(at.Add(after))}
		reply, err := api.UpdateLifecycle(ctx, &agentproto.UpdateLifecycleRequest{Lifecycle: sent})
		require.NoError(t, err, state)
		require.Equal(t, state, reply.State)
		return site.Agent()
	}

	got := report(agentproto.Lifecycle_STARTING, 1*time.Second)
	require.Equal(t, codersdk.WorkspaceAgentLifecycleStarting, got.LifecycleState)
	require.True(t, got.StartedAt.Equal(at.Add(1*time.Second)), "%v", got.StartedAt)
	require.Nil(t, got.ReadyAt)

	got = report(agentproto.Lifecycle_READY, 2*time.Second)
	require.True(t, got.StartedAt.Equal(at.Add(1*time.Second)))
	require.True(t, got.ReadyAt.Equal(at.Add(2*time.Second)), "%v", got.ReadyAt)

	for state, name := range map[agentproto.Lifecycle_State]codersdk.WorkspaceAgentLifecycle{
		agentproto.Lifecycle_SHUTTING_DOWN:    codersdk.WorkspaceAgentLifecycleShuttingDown,
		agentproto.Lifecycle_SHUTDOWN_TIMEOUT: codersdk.WorkspaceAgentLifecycleShutdownTimeout,
		agentproto.Lifecycle_SHUTDOWN_ERROR:   codersdk.WorkspaceAgentLifecycleShutdownError,
		agentproto.Lifecycle_OFF:              codersdk.WorkspaceAgentLifecycleOff,
	} {
		got = report(state, 3*time.Second)
		require.Equal(t, name, got.LifecycleState)
		require.True(t, got.StartedAt.Equal(at.Add(1*time.Second)))
		require.True(t, got.ReadyAt.Equal(at.Add(2*time.Second)))
	}

	// A new process of the same agent starts over.
	got = report(agentproto.Lifecycle_STARTING, 4*time.Second)
	require.True(t, got.StartedAt.Equal(at.Add(4*time.Second)))
	require.Nil(t, got.ReadyAt)
	got = report(agentproto.Lifecycle_START_TIMEOUT, 5*time.Second)
	require.True(t, got.ReadyAt.Equal(at.Add(5*time.Second)))
	got = report(agentproto.Lifecycle_START_ERROR, 6*time.Second)
	require.True(t, got.ReadyAt.Equal(at.Add(6*time.Second)))

	_, err := api.UpdateLifecycle(ctx, &agentproto.UpdateLifecycleRequest{Lifecycle: &agentproto.Lifecycle{}})
	require.Error(t, err, "a state must be named")
}

func TestReportConnectionNeverFails(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	api := site.MustDial().Agent
	id, reason := uuid.New(), ""
	// A 2.24 agent redials after any error here and sends the same report again,
	// for ever, so nonsense has to be swallowed.
	for name, report := range map[string]*agentproto.Connection{
		"connect": {
			Id: id[:], Action: agentproto.Connection_CONNECT, Type: agentproto.Connection_SSH,
			Timestamp: timestamppb.Now(), Ip: "fd7a:115c:a1e0::1",
		},
		"disconnect": {
			Id: id[:], Action: agentproto.Connection_DISCONNECT, Type: agentproto.Connection_SSH,
			Timestamp: timestamppb.Now(), StatusCode: 255, Reason: &reason,
		},
		"zero enums":  {Id: id[:], Timestamp: timestamppb.Now(), Ip: "localhost"},
		"new enums":   {Id: id[:], Action: 77, Type: 99, Timestamp: timestamppb.Now()},
		"bad id":      {Id: []byte("x"), Action: agentproto.Connection_CONNECT},
		"bad address": {Id: id[:], Action: agentproto.Connection_CONNECT, Ip: "not an address"},
		"empty":       {},
		"nothing":     nil,
	} {
		_, err := api.ReportConnection(ctx, &agentproto.ReportConnectionRequest{Connection: report})
		require.NoError(t, err, name)
	}
}

func TestBatchCreateLogsStopsAtTheLimit(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, 2*harness.Patience)
	api := site.MustDial().Agent
	source := uuid.New()
	send := func(level agentproto.Log_Level, lines ...string) *agentproto.BatchCreateLogsResponse {
		t.Helper()
		req := &agentproto.BatchCreateLogsRequest{LogSourceId: source[:]}
		for _, line := range lines {
			req.Logs = append(req.Logs, &agentproto.Log{CreatedAt: timestamppb.Now(), Level: level, Output: line})
		}
		reply, err := api.BatchCreateLogs(ctx, req)
		require.NoError(t, err)
		return reply
	}

	require.False(t, send(agentproto.Log_INFO).LogLimitExceeded, "an empty batch is a success")
	for _, level := range []agentproto.Log_Level{0, agentproto.Log_TRACE, agentproto.Log_DEBUG, agentproto.Log_INFO, agentproto.Log_WARN, agentproto.Log_ERROR, 99} {
		require.False(t, send(level, "x").LogLimitExceeded)
	}
	levels := []codersdk.LogLevel{}
	for _, line := range site.Logs(0) {
		levels = append(levels, line.Level)
		require.Equal(t, source, line.SourceID)
	}
	require.Equal(t, []codersdk.LogLevel{"info", "trace", "debug", "info", "warn", "error", "info"}, levels)

	long := strings.Repeat("é", maxLogLine+1)
	require.False(t, send(agentproto.Log_INFO, long).LogLimitExceeded)
	logs := site.Logs(0)
	require.Equal(t, long[:2*maxLogLine], logs[len(logs)-1].Output, "cut by characters, not bytes")

	stored := int(site.Agent().LogsLength)
	require.Equal(t, 7+len(long), stored, "counted in bytes, before the cut")
	filler := strings.Repeat("z", (maxLogBytes-stored)/2)
	require.False(t, send(agentproto.Log_INFO, filler, filler).LogLimitExceeded)
	require.False(t, site.Agent().LogsOverflowed)
	count := len(site.Logs(0))

	require.True(t, send(agentproto.Log_INFO, "one", "line too", "many").LogLimitExceeded)
	require.True(t, send(agentproto.Log_INFO, "").LogLimitExceeded, "once over, always over")
	require.Len(t, site.Logs(0), count, "nothing of a refused batch is stored")
	require.True(t, site.Agent().LogsOverflowed)
}

func TestLogsOfTheNilSourceAreExternal(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, err := site.MustDial().Agent.BatchCreateLogs(harness.Context(t, harness.Patience), &agentproto.BatchCreateLogsRequest{
		LogSourceId: make([]byte, 16),
		Logs:        []*agentproto.Log{{Output: "from outside"}, {Output: "nul \x00 inside"}},
	})
	require.NoError(t, err)
	logs := site.Logs(0)
	require.Len(t, logs, 2)
	require.Equal(t, agentsdk.ExternalLogSourceID, logs[0].SourceID)
	require.NotContains(t, logs[1].Output, "\x00")
	sources := site.Agent().LogSources
	require.Len(t, sources, 1)
	require.Equal(t, "External", sources[0].DisplayName)
}

func TestScriptCompletedTakesEveryTiming(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.script]]
display_name = "Start"
script = "true"
run_on_start = true
`)
	ctx := harness.Context(t, harness.Patience)
	api := site.MustDial().Agent
	id := site.Agent().Scripts[0].ID
	for stage := range agentproto.Timing_Stage_name {
		for status := range agentproto.Timing_Status_name {
			_, err := api.ScriptCompleted(ctx, &agentproto.WorkspaceAgentScriptCompletedRequest{Timing: &agentproto.Timing{
				ScriptId: id[:],
				Start:    timestamppb.New(time.Now().Add(-time.Second)),
				End:      timestamppb.Now(),
				ExitCode: 255,
				Stage:    agentproto.Timing_Stage(stage),
				Status:   agentproto.Timing_Status(status),
			}})
			require.NoError(t, err)
		}
	}
}

func TestMetadataValuesAreCutAndUnknownKeysIgnored(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, `
[[workspace.agent.metadata]]
key = "known"
display_name = "Known"
script = "true"
interval = 1
timeout = 1
`)
	ctx := harness.Context(t, harness.Patience)
	many := []*agentproto.Metadata{{Key: "unknown", Result: &agentproto.WorkspaceAgentMetadata_Result{Value: "x"}}}
	// More than 6144 bytes of keys: upstream answers this with an error, which
	// costs the agent its connection.
	for range 10 {
		many = append(many, &agentproto.Metadata{Key: strings.Repeat("k", 1000), Result: &agentproto.WorkspaceAgentMetadata_Result{}})
	}
	api := site.MustDial().Agent
	_, err := api.BatchUpdateMetadata(ctx, &agentproto.BatchUpdateMetadataRequest{Metadata: many})
	require.NoError(t, err)
	_, err = api.BatchUpdateMetadata(ctx, &agentproto.BatchUpdateMetadataRequest{Metadata: []*agentproto.Metadata{{
		Key: "known",
		Result: &agentproto.WorkspaceAgentMetadata_Result{
			CollectedAt: timestamppb.New(time.Unix(0, 0)),
			Value:       strings.Repeat("v", 3000),
		},
	}}})
	require.NoError(t, err)

	updates, failed := site.Client.WatchWorkspaceAgentMetadata(ctx, site.AgentID)
	select {
	case update := <-updates:
		require.Len(t, update, 1)
		result := update[0].Result
		require.Equal(t, strings.Repeat("v", 2048), result.Value)
		require.NotEmpty(t, result.Error, "the cut is announced")
		require.WithinDuration(t, time.Now(), result.CollectedAt, harness.Patience, "the server's own time")
	case err := <-failed:
		require.NoError(t, err)
	}
}

func TestBannersUsageAndHealthAreTaken(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, fullAgent)
	ctx := harness.Context(t, harness.Patience)
	api := site.MustDial().Agent

	_, err := api.GetAnnouncementBanners(ctx, &agentproto.GetAnnouncementBannersRequest{})
	require.NoError(t, err)
	_, err = api.GetServiceBanner(ctx, &agentproto.GetServiceBannerRequest{})
	require.NoError(t, err)

	for _, points := range [][]*agentproto.PushResourcesMonitoringUsageRequest_Datapoint{nil, {
		{CollectedAt: timestamppb.Now()},
		{
			CollectedAt: timestamppb.Now(),
			Memory:      &agentproto.PushResourcesMonitoringUsageRequest_Datapoint_MemoryUsage{Used: 1, Total: 2},
			Volumes:     []*agentproto.PushResourcesMonitoringUsageRequest_Datapoint_VolumeUsage{{Volume: "/", Used: 3, Total: 4}},
		},
	}} {
		_, err = api.PushResourcesMonitoringUsage(ctx, &agentproto.PushResourcesMonitoringUsageRequest{Datapoints: points})
		require.NoError(t, err)
	}

	var checked uuid.UUID
	for _, app := range site.Agent().Apps {
		if app.Slug == "checked" {
			checked = app.ID
		}
	}
	_, err = api.BatchUpdateAppHealths(ctx, &agentproto.BatchUpdateAppHealthRequest{
		Updates: []*agentproto.BatchUpdateAppHealthRequest_HealthUpdate{{Id: checked[:], Health: agentproto.AppHealth_UNHEALTHY}},
	})
	require.NoError(t, err)
	for _, app := range site.Agent().Apps {
		if app.ID == checked {
			require.Equal(t, codersdk.WorkspaceAppHealthUnhealthy, app.Health)
		}
	}
}
