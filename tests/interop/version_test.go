package interop

import (
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"storj.io/drpc"
	"storj.io/drpc/drpcerr"

	agentproto "github.com/coder/coder/v2/agent/proto"
	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/agentrpc"
	"moorline.test/interop/internal/harness"
)

// unimplemented is the only error code that clients know.
const unimplemented = 12

func TestEveryMinorOfVersion2IsAccepted(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	// No version at all means 2.0, what agents of release 2.7 rely on. Minors above
	// ours are accepted because agents never look at the server's version.
	for _, query := range []url.Values{
		nil, {"version": {""}},
		agentrpc.Version("2.0"), agentrpc.Version("2.3"), agentrpc.Version("2.6"),
		agentrpc.Version("2.13"), agentrpc.Version("2.99"),
	} {
		conn, err := site.Dial(site.Token, query)
		require.NoError(t, err, "%v", query)
		_, err = conn.Agent.GetManifest(ctx, &agentproto.GetManifestRequest{})
		require.NoError(t, err, "%v", query)
		require.NoError(t, conn.Close())
	}
}

func TestOtherVersionsAreRefusedInTheExpectedWords(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	for _, version := range []string{"1.0", "1", "3.0", "99.0", "2", "2.", ".6", "2.x", "2.6.1", "garbage", "v2.6"} {
		_, err := site.Dial(site.Token, agentrpc.Version(version))
		var refused *codersdk.Error
		require.ErrorAs(t, err, &refused, version)
		require.Equal(t, http.StatusBadRequest, refused.StatusCode(), version)
		// The client library compares this text byte by byte.
		require.Equal(t, "Unknown or unsupported API version", refused.Message, version)
		require.Len(t, refused.Validations, 1, version)
		require.Equal(t, "version", refused.Validations[0].Field, version)
	}
	// The token is looked at before the version.
	_, err := site.Dial("", agentrpc.Version("garbage"))
	require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)
}

func TestUnknownRPCIsUnimplementedAndHarmless(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	conn, err := site.Dial(site.Token, agentrpc.Version("2.99"))
	require.NoError(t, err)
	for _, name := range []string{
		"/coder.agent.v2.Agent/NotInventedYet",
		"/coder.tailnet.v2.Tailnet/NotInventedYet",
		"/coder.other.v1.Service/Call",
		"nonsense",
	} {
		err := conn.Invoke(ctx, name, encoding{}, &agentproto.GetManifestRequest{}, &agentproto.Manifest{})
		require.Error(t, err, name)
		require.EqualValues(t, unimplemented, drpcerr.Code(err), "%s: %v", name, err)
	}
	_, err = conn.Agent.GetManifest(ctx, &agentproto.GetManifestRequest{})
	require.NoError(t, err, "the connection is still good")
}

func TestBrokenRequestFailsOnlyItsOwnCall(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	ctx := harness.Context(t, harness.Patience)
	conn := site.MustDial()
	err := conn.Invoke(ctx, "/coder.agent.v2.Agent/UpdateStartup", encoding{}, rawMessage("\x0a\xff\xff"), &agentproto.Startup{})
	require.Error(t, err)
	_, err = conn.Agent.GetManifest(ctx, &agentproto.GetManifestRequest{})
	require.NoError(t, err, "the connection is still good")
}

// rawMessage is sent as it is.
type rawMessage string

// encoding is protobuf, except for raw messages.
type encoding struct{}

func (encoding) Marshal(message drpc.Message) ([]byte, error) {
	if raw, ok := message.(rawMessage); ok {
		return []byte(raw), nil
	}
	known, ok := message.(proto.Message)
	if !ok {
		return nil, errors.New("not a protobuf message")
	}
	return proto.Marshal(known)
}

func (encoding) Unmarshal(data []byte, message drpc.Message) error {
	known, ok := message.(proto.Message)
	if !ok {
		return errors.New("not a protobuf message")
	}
	return proto.Unmarshal(data, known)
}
