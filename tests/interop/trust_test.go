package interop

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// Story 34: a certificate is renewed, and later replaced by a bad one, under a
// session that goes through the relay.
func TestCertificateChangesDropNoSession(t *testing.T) {
	t.Parallel()
	authority := harness.NewAuthority(t)
	site := harness.NewTLSSite(t, authority, "", "--disable-direct-connections=true")
	agent, alice := connected(t, site)
	shell := alice.Terminal("ssh", "dev")
	shell.Echo("before", harness.Patience)

	renewed := authority.Renew()
	site.Signal(syscall.SIGHUP)
	shows := func(serial int64) func() error {
		return func() error {
			if got := authority.Serial(site.URL.Host); got != serial {
				return fmt.Errorf("the server shows certificate %d, not %d", got, serial)
			}
			return nil
		}
	}
	harness.Eventually(t, harness.Patience, shows(renewed))
	shell.Echo("renewed", quickEcho)
	require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "anew"), "anew")

	before := len(site.Log())
	authority.Spoil()
	site.Signal(syscall.SIGHUP)
	harness.Eventually(t, harness.Patience, func() error {
		if !strings.Contains(strings.ToLower(site.Log()[before:]), "certificate") {
			return fmt.Errorf("the server did not report the bad certificate")
		}
		return nil
	})
	harness.Throughout(t, 2*time.Second, shows(renewed))
	shell.Echo("spoiled", quickEcho)

	// Nor does it come back later, unlike a good one that follows by itself.
	again := authority.Renew()
	site.Signal(syscall.SIGHUP)
	harness.Eventually(t, harness.Patience, shows(again))
	require.Equal(t, 1, agent.Count(harness.LogDialing))
	shell.Type("exit 3\n")
	require.Equal(t, 3, shell.Wait(quickEcho))
}

// A server whose certificate nobody vouches for is told apart from one that is away.
func TestUntrustedCertificateIsNamed(t *testing.T) {
	t.Parallel()
	site := harness.NewTLSSite(t, harness.NewAuthority(t), "")
	alice := site.Person(harness.Owner)
	alice.Env = []string{"SSL_CERT_FILE=/dev/null"}
	require.Contains(t, alice.Refused("login", site.Front.String(), "--token", alice.Token), "certificate signed by unknown authority")
}

// Story 35: only a company's proxy leads to the server, for API and relay alike,
// and nothing of the tailnet is ever asked of it.
func TestEverythingGoesThroughTheCompanysProxy(t *testing.T) {
	t.Parallel()
	const name = "moorline.test"
	authority := harness.NewAuthority(t)
	authority.Renew(name)
	proxy := harness.StartWebProxy(t, map[string]string{})
	site := harness.NewTLSSite(t, authority, "", "--access-url", "https://"+name, "--disable-direct-connections=true")
	proxy.SetHost(name+":443", site.URL.Host)
	_, err := net.LookupHost(name)
	require.Error(t, err, "nobody else finds the way")

	front := *site.URL
	front.Host = name
	site.Front = &front
	through := "HTTPS_PROXY=" + proxy.URL.String()
	agent := site.StartAgent(harness.AgentOptions{Env: []string{through}})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	alice := site.Person(harness.Owner)
	alice.Env = append(alice.Env, through)
	alice.SignIn()
	require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "through"), "through")
	require.NotContains(t, alice.Must("speedtest", "dev", "-t", "1s"), "error")
	require.Equal(t, []string{name + ":443"}, proxy.Asked())
	require.NoError(t, agent.Alive())

	// Without the proxy the server cannot be found, and that is said at once.
	lost := site.Person(harness.Owner)
	require.Contains(t, lost.Refused("login", site.Front.String(), "--token", lost.Token), name)
}

// Story 35, the reverse: the proxy is dead, and NO_PROXY names the server.
func TestNoProxyLeadsPastADeadProxy(t *testing.T) {
	t.Parallel()
	authority := harness.NewAuthority(t)
	authority.Renew("localhost")
	site := harness.NewTLSSite(t, authority, "")
	env := []string{"HTTPS_PROXY=http://127.0.0.1:" + harness.FreePort(t), "NO_PROXY=" + site.URL.Hostname()}
	site.StartAgent(harness.AgentOptions{Env: env})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	alice := site.Person(harness.Owner)
	alice.Env = env
	alice.SignIn()
	require.Contains(t, alice.Must("ssh", "dev", "--", "echo", "past"), "past")
	require.Contains(t, alice.Must("--disable-direct-connections", "ssh", "dev", "--", "echo", "past"), "past")
}
