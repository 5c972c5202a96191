package interop

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorline.test/interop/internal/harness"
)

// notYours is what the server says of all that is not there or not to be seen.
const notYours = "does not exist, or you may not see it"

// echoServer answers each TCP connection with what it sends.
func echoServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// requireEcho sends a megabyte to an echo server and reads it back.
func requireEcho(t *testing.T, address string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, harness.Patience)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(harness.Patience)))
	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent)
	go func() { _, _ = conn.Write(sent) }()
	got := make([]byte, len(sent))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(sent), sha256.Sum256(got))
}

// randomFile makes a file of this size and returns its checksum.
func randomFile(t *testing.T, path string, size int64) string {
	t.Helper()
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	hash := sha256.New()
	_, err = io.CopyN(io.MultiWriter(file, hash), rand.Reader, size)
	require.NoError(t, err)
	return hex.EncodeToString(hash.Sum(nil))
}

// checksum is that of a file.
func checksum(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	require.NoError(t, err)
	return hex.EncodeToString(hash.Sum(nil))
}

// waitSize waits until a file that is being written has this size.
func waitSize(t *testing.T, path string, size int64, within time.Duration) {
	t.Helper()
	harness.Eventually(t, within, func() error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() < size {
			return fmt.Errorf("%s has %d bytes, not %d yet", path, info.Size(), size)
		}
		return nil
	})
}

// startAuthAgent runs an ssh-agent with one new key for this person and returns
// the key's fingerprint.
func startAuthAgent(t *testing.T, site *harness.Site, p *harness.Person) string {
	t.Helper()
	socket := filepath.Join(site.Dir, "auth-agent")
	p.Env = append(p.Env, "SSH_AUTH_SOCK="+socket)
	p.StartProgram("ssh-agent", "-D", "-a", socket)
	key := filepath.Join(p.Home, "key")
	out := p.Run(harness.RunOptions{}, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	require.Zero(t, out.Code, out.Stderr)
	harness.Eventually(t, harness.Patience, func() error {
		if out := p.Run(harness.RunOptions{}, "ssh-add", key); out.Code != 0 {
			return fmt.Errorf("ssh-add: %s", out.Stderr)
		}
		return nil
	})
	out = p.Run(harness.RunOptions{}, "ssh-keygen", "-l", "-f", key+".pub")
	require.Zero(t, out.Code, out.Stderr)
	return strings.Fields(out.Stdout)[1]
}

// refuseUpgrade is a proxy that knows no upgrade but a WebSocket.
func refuseUpgrade(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "this proxy knows no such upgrade", http.StatusBadRequest)
}
