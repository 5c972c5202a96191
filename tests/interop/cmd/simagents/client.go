package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	tailnetproto "github.com/coder/coder/v2/tailnet/proto"

	"moorline.test/interop/internal/agentrpc"
)

// clientFloor begins a client's back-off (codersdk/workspacesdk of v2.24.0).
const clientFloor = 50 * time.Millisecond

// clientLine is one line of --clients.
type clientLine struct {
	token string
	agent uuid.UUID
}

// client is one simulated `coder ssh`: one tunnel to one agent.
type client struct {
	fleet   *fleet
	line    clientLine
	sockets *sockets
	// resume is the newest resume token, by which it stays the same peer.
	resume string
}

func newClient(f *fleet, line clientLine) *client {
	return &client{fleet: f, line: line, sockets: newSockets()}
}

func (c *client) run(ctx context.Context) {
	c.fleet.keep(ctx, clientFloor, c.session)
}

func (c *client) breakAll() { c.sockets.breakAll() }

// session connects, asks for the tunnel, and stays until the connection ends.
func (c *client) session(ctx context.Context) (complete bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	overdue := time.AfterFunc(sessionWithin, cancel)

	query := agentrpc.Version("2.0")
	if c.resume != "" {
		query.Set("resume_token", c.resume)
	}
	began := time.Now()
	conn, err := agentrpc.DialClient(ctx, c.fleet.url, c.line.agent, c.line.token, query, c.sockets.transport)
	if err != nil {
		return false, fmt.Errorf("dial as client: %w", err)
	}
	defer conn.Close()
	c.fleet.took("dial (client)", time.Since(began))

	stream, err := conn.Tailnet.Coordinate(ctx)
	if err != nil {
		return false, err
	}
	if err := c.begin(ctx, conn, stream); err != nil {
		return false, err
	}
	err = c.fleet.timed(step{"tunnel ready (client)", func() error { return c.awaitReady(stream) }})
	if err != nil {
		return false, err
	}
	if !overdue.Stop() {
		return false, errors.New("the client's session was not complete in time")
	}
	c.fleet.sessionUp()
	defer c.fleet.sessionDown()
	for {
		if _, err := stream.Recv(); err != nil {
			return true, err
		}
	}
}

// begin makes the calls of a client in their order.
func (c *client) begin(ctx context.Context, conn *agentrpc.Conn, stream tailnetproto.DRPCTailnet_CoordinateClient) error {
	err := stream.Send(&tailnetproto.CoordinateRequest{
		AddTunnel: &tailnetproto.CoordinateRequest_Tunnel{Id: c.line.agent[:]},
	})
	if err != nil {
		return err
	}
	regions, err := conn.Tailnet.StreamDERPMaps(ctx, &tailnetproto.StreamDERPMapsRequest{})
	if err != nil {
		return err
	}
	derpMap, err := regions.Recv()
	if err != nil {
		return fmt.Errorf("relay map: %w", err)
	}
	err = c.fleet.timed(step{"RefreshResumeToken", func() error {
		reply, err := conn.Tailnet.RefreshResumeToken(ctx, &tailnetproto.RefreshResumeTokenRequest{})
		if err == nil {
			c.resume = reply.GetToken()
		}
		return err
	}})
	if err != nil {
		return err
	}
	node, err := agentrpc.Node(uuid.New(), agentrpc.Region(derpMap))
	if err != nil {
		return err
	}
	return stream.Send(&tailnetproto.CoordinateRequest{
		UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: node},
	})
}

// awaitReady waits until the agent has got our node and answered it.
func (c *client) awaitReady(stream tailnetproto.DRPCTailnet_CoordinateClient) error {
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if response.GetError() != "" {
			return fmt.Errorf("coordinate: %s", response.GetError())
		}
		for _, update := range response.GetPeerUpdates() {
			if !bytes.Equal(update.GetId(), c.line.agent[:]) {
				return fmt.Errorf("told about %x, which is none of this client's business", update.GetId())
			}
			if update.GetKind() == tailnetproto.CoordinateResponse_PeerUpdate_READY_FOR_HANDSHAKE {
				return nil
			}
		}
	}
}

// readClients reads the file of --clients; no name, no clients.
func readClients(path string) ([]clientLine, error) {
	if path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--clients: %w", err)
	}
	var clients []clientLine
	for number, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		token, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		agent, err := uuid.Parse(id)
		if err != nil {
			return nil, fmt.Errorf("--clients: line %d of %s: %w", number+1, path, err)
		}
		clients = append(clients, clientLine{token, agent})
	}
	return clients, nil
}
