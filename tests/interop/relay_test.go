package interop

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"

	"github.com/google/uuid"

	tailnetproto "github.com/coder/coder/v2/tailnet/proto"

	"moorline.test/interop/internal/agentrpc"
	"moorline.test/interop/internal/harness"
)

// relayed is one connection to the relay with everything that came over it.
type relayed struct {
	client *derphttp.Client
	key    key.NodePrivate
	got    chan derp.ReceivedPacket
	ended  chan error
}

// dialRelay connects with this key by the same library as agents and clients.
func dialRelay(t *testing.T, site *harness.Site, private key.NodePrivate) *relayed {
	t.Helper()
	client, err := derphttp.NewClient(private, site.URL.JoinPath("/derp").String(), func(string, ...any) {})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.Connect(harness.Context(t, harness.Patience)))
	r := &relayed{client: client, key: private, got: make(chan derp.ReceivedPacket, 1000), ended: make(chan error, 1)}
	go func() {
		for {
			message, err := client.Recv()
			if err != nil {
				r.ended <- err
				return
			}
			if packet, ok := message.(derp.ReceivedPacket); ok {
				packet.Data = append([]byte{}, packet.Data...)
				r.got <- packet
			}
		}
	}()
	return r
}

// reaches sends until the other has received something from us, or says that it
// never did.
func (r *relayed) reaches(other *relayed, within time.Duration) bool {
	mark := make([]byte, 100)
	_, _ = rand.Read(mark)
	end := time.After(within)
	for {
		// A refused sender may be cut, which ends its sending as well.
		_ = r.client.Send(other.key.Public(), mark)
		select {
		case packet := <-other.got:
			if packet.Source == r.key.Public() && string(packet.Data) == string(mark) {
				return true
			}
		case <-end:
			return false
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// announce makes a key known: bob's agent publishes a node with it.
func announce(t *testing.T, site *harness.Site, token string, id uuid.UUID, private key.NodePrivate) (end func()) {
	t.Helper()
	conn, err := site.Dial(token, agentrpc.Version("2.6"))
	require.NoError(t, err)
	region := firstRegion(harness.Context(t, harness.Patience), t, conn.Tailnet)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := conn.Tailnet.Coordinate(ctx)
	require.NoError(t, err)
	node, err := agentrpc.NodeOf(private, id, region)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&tailnetproto.CoordinateRequest{UpdateSelf: &tailnetproto.CoordinateRequest_UpdateSelf{Node: node}}))
	return func() {
		_ = stream.Send(&tailnetproto.CoordinateRequest{Disconnect: &tailnetproto.CoordinateRequest_Disconnect{}})
		_, _ = coordinateEnd(stream)
	}
}

// TestRelayForwardsBetweenKnownKeysOnly is failure story 38.
func TestRelayForwardsBetweenKnownKeysOnly(t *testing.T) {
	t.Parallel()
	estate := newEstate(t)
	first, second, unknown := key.NewNode(), key.NewNode(), key.NewNode()
	one := dialRelay(t, estate.Site, first)
	stranger := dialRelay(t, estate.Site, unknown)
	begun := time.Now()
	announce(t, estate.Site, estate.Token, estate.AgentID, first)
	bye := announce(t, estate.Site, estate.box.Agents[0].Token, estate.box.Agents[0].ID, second)
	two := dialRelay(t, estate.Site, second)

	require.True(t, one.reaches(two, harness.Patience), "a key may come before its node is announced")
	require.True(t, two.reaches(one, harness.Patience))
	require.False(t, stranger.reaches(one, 2*time.Second))
	require.False(t, one.reaches(stranger, 2*time.Second))

	// The unknown key is cut in the end, and counted.
	harness.Eventually(t, 45*time.Second, func() error {
		select {
		case <-stranger.ended:
			return nil
		default:
			return fmt.Errorf("the unknown key is still connected after %v", time.Since(begun))
		}
	})
	require.Greater(t, time.Since(begun), 20*time.Second, "it had time to be announced")
	require.Positive(t, estate.Metric(`moorline_relay_ended_total{reason="stranger"}`))
	require.Positive(t, estate.Metric(`moorline_relay_dropped_total{reason="stranger"}`))
	require.True(t, one.reaches(two, harness.Patience), "the others noticed nothing")

	// A peer that said goodbye is unknown from then on.
	bye()
	harness.Eventually(t, 45*time.Second, func() error {
		if one.reaches(two, 500*time.Millisecond) {
			return errors.New("packets still arrive")
		}
		return nil
	})
}
