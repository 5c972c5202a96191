package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorline.test/interop/internal/harness"
)

const (
	x11Ports     = 6000
	x11Protocol  = "MIT-MAGIC-COOKIE-1"
	screenAnswer = "this is the real screen"
)

// screen stands for an X server: it reads one set-up request per connection.
type screen struct {
	cookie string
	asked  chan string
}

// startScreen listens as an X server and makes it the display of this person.
func startScreen(t *testing.T, p *harness.Person) *screen {
	t.Helper()
	var listener net.Listener
	number := 0
	// The agent takes the first free display from 10 on; these are far above.
	for candidate := 20000; listener == nil; candidate++ {
		require.Less(t, candidate, 20100, "no free display")
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(x11Ports+candidate)); err == nil {
			number = candidate
		}
	}
	t.Cleanup(func() { _ = listener.Close() })
	s := &screen{cookie: hex.EncodeToString([]byte("0123456789abcdef")), asked: make(chan string, 1)}
	display := fmt.Sprintf("127.0.0.1:%d", number)
	p.Env = append(p.Env, "DISPLAY="+display, "XAUTHORITY="+p.Home+"/.Xauthority")
	out := p.Run(harness.RunOptions{}, "xauth", "add", display, x11Protocol, s.cookie)
	require.Zero(t, out.Code, out.Stderr)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if cookie, err := readSetUp(conn); err == nil {
					s.asked <- cookie
					_, _ = io.WriteString(conn, screenAnswer)
				}
			}()
		}
	}()
	return s
}

// setUp is the first message of an X client, little-endian.
type setUp struct {
	Order, _         byte
	Major, Minor     uint16
	NameLen, DataLen uint16
	_                uint16
}

// readSetUp returns the cookie of a set-up request.
func readSetUp(r io.Reader) (string, error) {
	var head setUp
	if err := binary.Read(r, binary.LittleEndian, &head); err != nil {
		return "", err
	}
	name := make([]byte, (int(head.NameLen)+3)/4*4)
	data := make([]byte, (int(head.DataLen)+3)/4*4)
	if _, err := io.ReadFull(r, name); err != nil {
		return "", err
	}
	_, err := io.ReadFull(r, data)
	return hex.EncodeToString(data[:head.DataLen]), err
}

// askScreen opens a display as an X client does and returns what its server says.
func askScreen(t *testing.T, display, cookie string) string {
	t.Helper()
	_, rest, found := strings.Cut(display, ":")
	require.True(t, found, display)
	number, err := strconv.Atoi(strings.TrimSuffix(rest, ".0"))
	require.NoError(t, err, display)
	// The agent listens at localhost, which may be either address family.
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("localhost:%d", x11Ports+number), harness.Patience)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(harness.Patience)))
	data, err := hex.DecodeString(cookie)
	require.NoError(t, err)
	var request bytes.Buffer
	require.NoError(t, binary.Write(&request, binary.LittleEndian, setUp{
		Order: 'l', Major: 11, NameLen: uint16(len(x11Protocol)), DataLen: uint16(len(data)),
	}))
	request.WriteString(x11Protocol + "\x00\x00")
	request.Write(data)
	_, err = conn.Write(request.Bytes())
	require.NoError(t, err)
	answer := make([]byte, len(screenAnswer))
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	return string(answer)
}
