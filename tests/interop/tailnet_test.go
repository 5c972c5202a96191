package interop

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"storj.io/drpc/drpcerr"

	"github.com/coder/coder/v2/tailnet"
	tailnetproto "github.com/coder/coder/v2/tailnet/proto"

	"moorline.test/interop/internal/agentrpc"
	"moorline.test/interop/internal/harness"
)

// coordinateEnd is what the stream says next: nil for the orderly end.
func coordinateEnd(stream tailnetproto.DRPCTailnet_CoordinateClient) (response *tailnetproto.CoordinateResponse, err error) {
	response, err = stream.Recv()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return response, err
}

func TestCoordinateTakesOurNodeAndEndsOnDisconnect(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	api := site.MustDial().Tailnet
	region := firstRegion(ctx, t, api)

	stream, err := api.Coordinate(ctx)
	require.NoError(t, err)
	node, err := agentrpc.Node(site.AgentID, region)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&tailnetproto.CoordinateRequest{UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: node}}))
	harness.Eventually(t, harness.Patience, func() error {
		for _, latency := range site.Agent().DERPLatency {
			if latency.Preferred && latency.LatencyMilliseconds == 1 {
				return nil
			}
		}
		return errors.New("the published node does not show in the agent's latency")
	})

	started := time.Now()
	require.NoError(t, stream.Send(&tailnetproto.CoordinateRequest{Disconnect: &tailnetproto.CoordinateRequest_Disconnect{}}))
	response, err := coordinateEnd(stream)
	require.NoError(t, err, "%v", response)
	require.Nil(t, response)
	require.Less(t, time.Since(started), 2*time.Second, "an agent that shuts down waits at most 5 s for this")
}

func TestCoordinateRefusesWhatAnAgentMayNotDo(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	api := site.MustDial().Tailnet
	region := firstRegion(ctx, t, api)
	foreign, err := agentrpc.Node(uuid.New(), region)
	require.NoError(t, err)
	wide, err := agentrpc.Node(site.AgentID, region)
	require.NoError(t, err)
	wide.Addresses = []string{tailnet.CoderServicePrefix.AddrFromUUID(site.AgentID).String() + "/64"}

	for name, req := range map[string]*tailnetproto.CoordinateRequest{
		"another's address": {UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: foreign}},
		"a whole network":   {UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: wide}},
		"a tunnel":          {AddTunnel: &tailnetproto.CoordinateRequest_Tunnel{Id: site.WorkspaceID[:]}},
	} {
		stream, err := api.Coordinate(ctx)
		require.NoError(t, err)
		require.NoError(t, stream.Send(req))
		// One answer with the reason, then the end of this stream only.
		response, err := coordinateEnd(stream)
		require.NoError(t, err, name)
		require.NotNil(t, response, name)
		require.NotEmpty(t, response.Error, name)
		_, err = stream.Recv()
		require.Error(t, err, name)
	}
	require.Positive(t, firstRegion(ctx, t, api), "the connection is still good")
}

func TestNewerCoordinateStreamReplacesTheOlder(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	older, newer := site.MustDial(), site.MustDial()
	region := firstRegion(ctx, t, older.Tailnet)

	first, err := older.Tailnet.Coordinate(ctx)
	require.NoError(t, err)
	publish(t, first, site.AgentID, region)
	harness.Eventually(t, harness.Patience, func() error {
		if len(site.Agent().DERPLatency) == 0 {
			return errors.New("the older stream has not been taken yet")
		}
		return nil
	})
	second, err := newer.Tailnet.Coordinate(ctx)
	require.NoError(t, err)
	publish(t, second, site.AgentID, region)

	for {
		// The older stream may carry an explanation before it ends.
		if _, err := first.Recv(); err != nil {
			break
		}
	}
	require.NoError(t, ctx.Err(), "the older stream must end by itself")
	require.NoError(t, second.Send(&tailnetproto.CoordinateRequest{Disconnect: &tailnetproto.CoordinateRequest_Disconnect{}}))
	_, err = coordinateEnd(second)
	require.NoError(t, err)
}

func TestOtherTailnetCallsAreAnsweredOnTheAgentConnection(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	api := site.MustDial().Tailnet

	_, err := api.PostTelemetry(ctx, &tailnetproto.TelemetryRequest{Events: []*tailnetproto.TelemetryEvent{{}}})
	if err != nil {
		require.EqualValues(t, unimplemented, drpcerr.Code(err), "taken, or refused once and for all: %v", err)
	}

	// Agents do not ask for a resume token; upstream answers with an error. Either
	// is fine for a client, an answer that never comes is not.
	token, err := api.RefreshResumeToken(ctx, &tailnetproto.RefreshResumeTokenRequest{})
	require.NoError(t, ctx.Err())
	if err == nil {
		require.NotEmpty(t, token.Token)
		require.Positive(t, token.RefreshIn.AsDuration())
		require.True(t, token.ExpiresAt.AsTime().After(time.Now()))
	}

	// An agent has no user whose workspaces it could watch.
	updates, err := api.WorkspaceUpdates(ctx, &tailnetproto.WorkspaceUpdatesRequest{WorkspaceOwnerId: make([]byte, 16)})
	require.NoError(t, err)
	_, err = updates.Recv()
	require.NoError(t, ctx.Err(), "an answer, whatever it is")
	_ = err

	require.Positive(t, firstRegion(ctx, t, api), "the connection is still good")
}

// firstRegion is the lowest relay region of the first map on a new stream.
func firstRegion(ctx context.Context, t *testing.T, api tailnetproto.DRPCTailnetClient) int32 {
	t.Helper()
	stream, err := api.StreamDERPMaps(ctx, &tailnetproto.StreamDERPMapsRequest{})
	require.NoError(t, err)
	defer stream.Close()
	derpMap, err := stream.Recv()
	require.NoError(t, err)
	requireUsableMap(t, derpMap)
	var lowest int64
	for id := range derpMap.Regions {
		if lowest == 0 || id < lowest {
			lowest = id
		}
	}
	return int32(lowest)
}

func publish(t *testing.T, stream tailnetproto.DRPCTailnet_CoordinateClient, id uuid.UUID, region int32) {
	t.Helper()
	node, err := agentrpc.Node(id, region)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&tailnetproto.CoordinateRequest{UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: node}}))
}
