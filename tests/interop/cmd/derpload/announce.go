package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/google/uuid"
	"github.com/hashicorp/yamux"
	"google.golang.org/protobuf/types/known/timestamppb"
	"tailscale.com/types/key"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/drpcsdk"
	"github.com/coder/coder/v2/tailnet"
	"github.com/coder/coder/v2/tailnet/proto"
	"github.com/coder/websocket"
)

// announce tells the coordinator of base that a peer has this key, as a client that wants to reach the agent
// does; a relay that serves no strangers needs it. The peer stays until ctx ends.
func announce(ctx context.Context, base *url.URL, token, agent string, public key.NodePublic) error {
	target, err := base.Parse("/api/v2/workspaceagents/" + agent + "/coordinate?version=2.0")
	if err != nil {
		return err
	}
	socket, res, err := websocket.Dial(ctx, target.String(), &websocket.DialOptions{
		HTTPHeader: http.Header{codersdk.SessionTokenHeader: {token}},
	})
	if err != nil {
		if res != nil {
			return codersdk.ReadBodyAsError(res)
		}
		return err
	}
	config := yamux.DefaultConfig()
	config.LogOutput = discard{}
	session, err := yamux.Client(websocket.NetConn(ctx, socket, websocket.MessageBinary), config)
	if err != nil {
		return err
	}
	stream, err := proto.NewDRPCTailnetClient(drpcsdk.MultiplexedConn(session)).Coordinate(ctx)
	if err != nil {
		return err
	}
	raw, err := public.MarshalBinary()
	if err != nil {
		return err
	}
	disco, err := key.NewDisco().Public().MarshalText()
	if err != nil {
		return err
	}
	address := netip.PrefixFrom(tailnet.TailscaleServicePrefix.RandomAddr(), 128).String()
	id := uuid.New()
	err = stream.Send(&proto.CoordinateRequest{UpdateSelf: &proto.CoordinateRequest_UpdateSelf{Node: &proto.Node{
		Id:            int64(tailnet.NodeID(id)),
		AsOf:          timestamppb.Now(),
		Key:           raw,
		Disco:         string(disco),
		PreferredDerp: region,
		Addresses:     []string{address},
		AllowedIps:    []string{address},
	}}})
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	return nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
