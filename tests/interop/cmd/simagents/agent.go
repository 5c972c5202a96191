package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/coder/coder/v2/agent/proto"
	tailnetproto "github.com/coder/coder/v2/tailnet/proto"

	"moorline.test/interop/internal/agentrpc"
)

const (
	// sessionWithin bounds everything from the dial to a complete session.
	sessionWithin = 60 * time.Second
	// tickEvery is the pause between two reports of one agent.
	tickEvery = 10 * time.Second
	// agentFloor begins an agent's back-off: the first redial at once, the second
	// after about 160 ms.
	agentFloor = 100 * time.Millisecond
)

// agent is one simulated agent: one token, one connection at a time.
type agent struct {
	fleet   *fleet
	token   string
	sockets *sockets
	// begun is set after the first complete session: like the real agent, later
	// ones do not report the lifecycle again.
	begun bool
}

func newAgent(f *fleet, token string) *agent {
	return &agent{fleet: f, token: token, sockets: newSockets()}
}

// run keeps the agent connected until ctx ends.
func (a *agent) run(ctx context.Context) {
	a.fleet.keep(ctx, agentFloor, a.session)
}

func (a *agent) breakAll() { a.sockets.breakAll() }

// session connects, makes the calls of a start, and stays until the connection
// ends. It says whether the session was ever complete.
func (a *agent) session(ctx context.Context) (complete bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The streams live as long as the session, so its start is bounded by a timer
	// and not by the context's deadline.
	overdue := time.AfterFunc(sessionWithin, cancel)

	began := time.Now()
	conn, err := agentrpc.Dial(ctx, a.fleet.url, a.token, agentrpc.Version("2.6"), a.sockets.transport)
	if err != nil {
		return false, fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	a.fleet.took("dial", time.Since(began))

	manifest, err := a.begin(ctx, conn)
	if err != nil {
		return false, err
	}
	if !overdue.Stop() {
		return false, errors.New("the session was not complete in time")
	}
	a.begun = true
	a.fleet.sessionUp()
	defer a.fleet.sessionDown()
	return true, a.stay(ctx, conn, manifest)
}

// begin makes the calls that a connecting agent makes, in its order, and leaves
// the two long streams open.
func (a *agent) begin(ctx context.Context, conn *agentrpc.Conn) (*proto.Manifest, error) {
	var (
		manifest *proto.Manifest
		regions  tailnetproto.DRPCTailnet_StreamDERPMapsClient
		derpMap  *tailnetproto.DERPMap
	)
	lifecycle := func(state proto.Lifecycle_State) func() error {
		return func() error {
			_, err := conn.Agent.UpdateLifecycle(ctx, &proto.UpdateLifecycleRequest{
				Lifecycle: &proto.Lifecycle{State: state, ChangedAt: timestamppb.Now()},
			})
			return err
		}
	}
	steps := []step{
		{"GetAnnouncementBanners", func() error {
			_, err := conn.Agent.GetAnnouncementBanners(ctx, &proto.GetAnnouncementBannersRequest{})
			return err
		}},
		{"GetResourcesMonitoringConfiguration", func() error {
			_, err := conn.Agent.GetResourcesMonitoringConfiguration(ctx, &proto.GetResourcesMonitoringConfigurationRequest{})
			return err
		}},
		{"GetManifest", func() (err error) {
			manifest, err = conn.Agent.GetManifest(ctx, &proto.GetManifestRequest{})
			return err
		}},
		{"UpdateStartup", func() error {
			_, err := conn.Agent.UpdateStartup(ctx, &proto.UpdateStartupRequest{Startup: &proto.Startup{
				Version: "v2.24.0", ExpandedDirectory: "/home/sim",
			}})
			return err
		}},
		{"StreamDERPMaps", func() (err error) {
			if regions, err = conn.Tailnet.StreamDERPMaps(ctx, &tailnetproto.StreamDERPMapsRequest{}); err != nil {
				return err
			}
			derpMap, err = regions.Recv()
			return err
		}},
		{"Coordinate (open)", func() error { return a.coordinate(ctx, conn, manifest, derpMap) }},
		{"UpdateStats (probe)", func() error {
			_, err := conn.Agent.UpdateStats(ctx, &proto.UpdateStatsRequest{})
			return err
		}},
	}
	if !a.begun {
		steps = append(steps,
			step{"UpdateLifecycle", lifecycle(proto.Lifecycle_STARTING)},
			step{"UpdateLifecycle", lifecycle(proto.Lifecycle_READY)})
	}
	for _, step := range steps {
		if err := a.fleet.timed(step); err != nil {
			return nil, err
		}
	}
	go func() {
		// The end of this stream ends the session, as in the real agent.
		for {
			if _, err := regions.Recv(); err != nil {
				_ = conn.Close()
				return
			}
		}
	}()
	return manifest, nil
}

// coordinate publishes a node and keeps reading the stream.
func (a *agent) coordinate(ctx context.Context, conn *agentrpc.Conn, manifest *proto.Manifest, derpMap *tailnetproto.DERPMap) error {
	id, err := uuid.FromBytes(manifest.GetAgentId())
	if err != nil {
		return fmt.Errorf("agent id: %w", err)
	}
	node, err := agentrpc.Node(id, agentrpc.Region(derpMap))
	if err != nil {
		return err
	}
	stream, err := conn.Tailnet.Coordinate(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&tailnetproto.CoordinateRequest{
		UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: node},
	})
	if err != nil {
		return err
	}
	go func() {
		defer conn.Close()
		for {
			response, err := stream.Recv()
			if err != nil {
				return
			}
			// The real agent answers each node of a client so.
			request := &tailnetproto.CoordinateRequest{}
			for _, update := range response.GetPeerUpdates() {
				if update.GetKind() == tailnetproto.CoordinateResponse_PeerUpdate_NODE {
					request.ReadyForHandshake = append(request.ReadyForHandshake,
						&tailnetproto.CoordinateRequest_ReadyForHandshake{Id: update.GetId()})
				}
			}
			if len(request.ReadyForHandshake) > 0 && stream.Send(request) != nil {
				return
			}
		}
	}()
	return nil
}

// stay reports every ten seconds, if wanted, until the connection ends.
func (a *agent) stay(ctx context.Context, conn *agentrpc.Conn, manifest *proto.Manifest) error {
	var ticks <-chan time.Time
	next := time.NewTimer(time.Hour)
	defer next.Stop()
	if a.fleet.ticks {
		// Machines were not all started in the same second, so their reports are spread.
		next.Reset(rand.N(tickEvery))
		ticks = next.C
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-conn.Closed():
			return nil
		case <-ticks:
			next.Reset(tickEvery)
			if err := a.report(ctx, conn, manifest); err != nil {
				return err
			}
		}
	}
}

// report sends what an idle agent with a few connections sends.
func (a *agent) report(ctx context.Context, conn *agentrpc.Conn, manifest *proto.Manifest) error {
	metadata := &proto.BatchUpdateMetadataRequest{}
	for _, description := range manifest.GetMetadata() {
		metadata.Metadata = append(metadata.Metadata, sample(description.GetKey()))
	}
	if len(metadata.Metadata) == 0 {
		metadata.Metadata = append(metadata.Metadata, sample("sim"))
	}
	err := a.fleet.timed(step{"UpdateStats", func() error {
		_, err := conn.Agent.UpdateStats(ctx, &proto.UpdateStatsRequest{Stats: &proto.Stats{
			ConnectionsByProto:        map[string]int64{"TCP": 2},
			ConnectionCount:           2,
			ConnectionMedianLatencyMs: 1.5,
			RxPackets:                 10, RxBytes: 1000, TxPackets: 10, TxBytes: 1000,
			SessionCountSsh: 1,
		}})
		return err
	}})
	if err != nil {
		return err
	}
	return a.fleet.timed(step{"BatchUpdateMetadata", func() error {
		_, err := conn.Agent.BatchUpdateMetadata(ctx, metadata)
		return err
	}})
}

func sample(key string) *proto.Metadata {
	return &proto.Metadata{Key: key, Result: &proto.WorkspaceAgentMetadata_Result{
		CollectedAt: timestamppb.Now(),
		Value:       time.Now().Format(time.RFC3339Nano),
	}}
}
