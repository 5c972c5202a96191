package interop

import (
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"moorline.test/interop/internal/harness"
)

func TestPortForward(t *testing.T) {
	t.Parallel()
	for _, network := range harness.Networks {
		t.Run(network.Name, func(t *testing.T) {
			t.Parallel()
			site := harness.NewSiteOn(t, network, "")
			_, alice := connected(t, site)
			_, tcpPort, err := net.SplitHostPort(echoServer(t))
			require.NoError(t, err)
			udpPort := udpEchoServer(t)
			localTCP, localUDP := harness.FreePort(t), harness.FreePort(t)

			forward := alice.Start("port-forward", "dev",
				"--tcp", localTCP+":"+tcpPort, "--udp", localUDP+":"+udpPort)
			forward.WaitFor("Ready!", harness.Patience)
			requireEcho(t, "127.0.0.1:"+localTCP)
			requireUDPEcho(t, "127.0.0.1:"+localUDP)
			// Several at once, each whole.
			for range 4 {
				t.Run("at-once", func(t *testing.T) {
					t.Parallel()
					requireEcho(t, "127.0.0.1:"+localTCP)
				})
			}
			t.Cleanup(func() {
				forward.Signal(syscall.SIGINT)
				require.Zero(t, forward.Wait(harness.Patience))
				require.Contains(t, forward.Output(), "Received signal")
			})
		})
	}
}

func TestPortForwardWithoutPortsIsRefused(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	alice := site.SignedIn(harness.Owner)
	require.Contains(t, alice.Refused("port-forward", "dev"), "no port-forwards requested")
}

func udpEchoServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		packet := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFromUDP(packet)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDP(packet[:n], from)
		}
	}()
	_, port, err := net.SplitHostPort(conn.LocalAddr().String())
	require.NoError(t, err)
	return port
}

// requireUDPEcho sends packets until one comes back: UDP promises nothing.
func requireUDPEcho(t *testing.T, address string) {
	t.Helper()
	conn, err := net.Dial("udp", address)
	require.NoError(t, err)
	defer conn.Close()
	attempt := 0
	harness.Eventually(t, harness.Patience, func() error {
		attempt++
		sent := "packet " + strconv.Itoa(attempt)
		if _, err := conn.Write([]byte(sent)); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		got := make([]byte, 100)
		n, err := conn.Read(got)
		if err != nil {
			return err
		}
		if string(got[:n]) != sent {
			return fmt.Errorf("sent %q, got %q", sent, got[:n])
		}
		return nil
	})
}
