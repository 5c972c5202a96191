// Package agentrpc opens the RPC connections of agents and of people's clients the
// way the real ones do (codersdk/agentsdk connectRPCVersion and
// codersdk/workspacesdk of v2.24.0), but with the query string and the sockets in
// the caller's hands.
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

// Conn is one RPC connection. Both services run on an agent's; a person's has the
// tailnet service only.
type Conn struct {
	drpc.Conn
	Agent   proto.DRPCAgentClient
	Tailnet tailnetproto.DRPCTailnetClient
}

// Dial connects an agent, with the token as cookie. The connection lives as long
// as ctx. A refusal before the upgrade is a *codersdk.Error.
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
	return open(ctx, target, &websocket.DialOptions{HTTPClient: &http.Client{Jar: jar, Transport: transport}})
}

// DialClient connects a person's client for one agent, with the session token as
// header (codersdk/workspacesdk of v2.24.0); the connection's Agent calls are none
// of its business.
func DialClient(ctx context.Context, base *url.URL, agent uuid.UUID, token string, query url.Values, transport http.RoundTripper) (*Conn, error) {
	return dialUser(ctx, base, "/api/v2/workspaceagents/"+agent.String()+"/coordinate", token, query, transport)
}

// DialTailnet connects a person's client for all agents that they may reach.
func DialTailnet(ctx context.Context, base *url.URL, token string, query url.Values, transport http.RoundTripper) (*Conn, error) {
	return dialUser(ctx, base, "/api/v2/tailnet", token, query, transport)
}

func dialUser(ctx context.Context, base *url.URL, path, token string, query url.Values, transport http.RoundTripper) (*Conn, error) {
	target, err := base.Parse(path)
	if err != nil {
		return nil, fmt.Errorf("parse url: %w", err)
	}
	target.RawQuery = query.Encode()
	return open(ctx, target, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport},
		HTTPHeader: http.Header{codersdk.SessionTokenHeader: {token}},
	})
}

// open makes the WebSocket and multiplexes calls on it.
func open(ctx context.Context, target *url.URL, options *websocket.DialOptions) (*Conn, error) {
	//nolint:bodyclose // the library owns the body of an upgrade
	socket, res, err := websocket.Dial(ctx, target.String(), options)
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

// Node makes a node that the server accepts from this peer: fresh keys, the two
// addresses that follow from the id (an agent's own, or any new one of a client),
// and the given relay region.
func Node(id uuid.UUID, region int32) (*tailnetproto.Node, error) {
	return NodeOf(key.NewNode(), id, region)
}

// NodeOf is Node with this node key, by which the relay knows the peer.
func NodeOf(private key.NodePrivate, id uuid.UUID, region int32) (*tailnetproto.Node, error) {
	nodeKey, err := private.Public().MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	disco, err := key.NewDisco().Public().MarshalText()
	if err != nil {
		return nil, fmt.Errorf("disco key: %w", err)
	}
	addresses := []string{
		tailnet.TailscaleServicePrefix.PrefixFromUUID(id).String(),
		tailnet.CoderServicePrefix.PrefixFromUUID(id).String(),
	}
	return &tailnetproto.Node{
		Id:            int64(tailnet.NodeID(id)),
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

// Region is the lowest region of a map with a relay in it, 0 without one.
func Region(derpMap *tailnetproto.DERPMap) int32 {
	var lowest int64
	for id, region := range derpMap.GetRegions() {
		for _, node := range region.GetNodes() {
			if !node.GetStunOnly() && (lowest == 0 || id < lowest) {
				lowest = id
			}
		}
	}
	return int32(lowest)
}
