// Package agentrpc opens the agent's RPC connection the way the real agent does
// (codersdk/agentsdk connectRPCVersion of v2.24.0), but with the query string and
// the sockets in the caller's hands.
package agentrpc

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/yamux"
	"storj.io/drpc"
	"tailscale.com/types/key"

	"github.com/coder/coder/v2/agent/proto"
	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/drpcsdk"
	"github.com/coder/coder/v2/tailnet"
	tailnetproto "github.com/coder/coder/v2/tailnet/proto"
	"github.com/coder/websocket"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// readLimit is the agent's own limit for one WebSocket message: 4 MiB.
const readLimit = 1 << 22

// Conn is one RPC connection; both services run on it.
type Conn struct {
	drpc.Conn
	Agent   proto.DRPCAgentClient
	Tailnet tailnetproto.DRPCTailnetClient
}

// Dial connects with the token as cookie. The connection lives as long as ctx.
// A refusal before the upgrade is a *codersdk.Error.
func Dial(ctx context.Context, base *url.URL, token string, query url.Values, transport http.RoundTripper) (*Conn, error) {
	target, err := base.Parse("/api/v2/workspaceagents/me/rpc")
	if err != nil {
		return nil, fmt.Errorf("parse url: %w", err)
	}
	target.RawQuery = query.Encode()
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("make cookie jar: %w", err)
	}
	jar.SetCookies(target, []*http.Cookie{{Name: codersdk.SessionTokenCookie, Value: token}})

	//nolint:bodyclose // the library owns the body of an upgrade
	socket, res, err := websocket.Dial(ctx, target.String(), &websocket.DialOptions{
		HTTPClient: &http.Client{Jar: jar, Transport: transport},
	})
	if err != nil {
		if res == nil {
			return nil, err
		}
		return nil, codersdk.ReadBodyAsError(res)
	}
	socket.SetReadLimit(readLimit)

	config := yamux.DefaultConfig()
	config.LogOutput = discard{}
	session, err := yamux.Client(websocket.NetConn(ctx, socket, websocket.MessageBinary), config)
	if err != nil {
		return nil, fmt.Errorf("multiplex: %w", err)
	}
	conn := drpcsdk.MultiplexedConn(session)
	return &Conn{
		Conn:    conn,
		Agent:   proto.NewDRPCAgentClient(conn),
		Tailnet: tailnetproto.NewDRPCTailnetClient(conn),
	}, nil
}

// Version is the query of an agent that speaks the given API version.
func Version(version string) url.Values {
	return url.Values{"version": {version}}
}

// Node makes a node that the server accepts from this agent: fresh keys, the two
// addresses that follow from the agent's id, and the given relay region.
func Node(agentID uuid.UUID, region int32) (*tailnetproto.Node, error) {
	nodeKey, err := key.NewNode().Public().MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	disco, err := key.NewDisco().Public().MarshalText()
	if err != nil {
		return nil, fmt.Errorf("disco key: %w", err)
	}
	addresses := []string{
		tailnet.TailscaleServicePrefix.PrefixFromUUID(agentID).String(),
		tailnet.CoderServicePrefix.PrefixFromUUID(agentID).String(),
	}
	return &tailnetproto.Node{
		Id:            int64(tailnet.NodeID(agentID)),
		AsOf:          timestamppb.New(time.Now()),
		Key:           nodeKey,
		Disco:         string(disco),
		PreferredDerp: region,
		DerpLatency:   map[string]float64{fmt.Sprintf("%d-v4", region): 0.001},
		Addresses:     addresses,
		AllowedIps:    addresses,
	}, nil
}

// discard drops yamux's complaints about connections that a test breaks on purpose.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
