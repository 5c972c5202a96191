package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Network is a way between the people and the machines of a test.
type Network struct {
	// Name is short and without spaces: it names a subtest.
	Name string
	// Direct says that peers find a direct path; otherwise the relay carries all.
	Direct bool

	args []string
	box  *MiddleboxOptions
	// listen is another address for the server.
	listen string
}

// IdleCut is how long a connection may be silent in the network WebSockets.
// Real proxies cut at 60 s; the server's own signs of life come each 25 s at the
// latest, so 30 s is as telling and twice as quick.
const IdleCut = 30 * time.Second

var (
	// Direct lets peers find each other.
	Direct = Network{Name: "direct", Direct: true}
	// RelayOnly leaves the server's relay as the only way.
	RelayOnly = Network{Name: "relay", args: []string{"--disable-direct-connections=true"}}
	// WebSockets has a middlebox before the server that passes nothing else and
	// cuts idle connections, and no other way.
	WebSockets = Network{
		Name: "websockets",
		args: []string{"--disable-direct-connections=true", "--derp-force-websockets=true"},
		box:  &MiddleboxOptions{Idle: IdleCut},
	}
)

// Networks are all of them.
var Networks = []Network{Direct, RelayOnly, WebSockets}

// Behind is a network with a middlebox of this kind before the server and no
// other way; args follow `serve`.
func Behind(opts MiddleboxOptions, args ...string) Network {
	return Network{Name: "behind", args: append(args, "--disable-direct-connections=true"), box: &opts}
}

// NewSiteOn is NewSite in this network; the site's Front is the middlebox's
// address if there is one. Further args follow `serve`.
func NewSiteOn(t testing.TB, network Network, agent string, args ...string) *Site {
	t.Helper()
	args = append(args, network.args...)
	if network.listen != "" {
		return siteOf(startServerAt(t, network.listen, args...), agent)
	}
	if network.box == nil {
		return siteOf(StartServer(t, args...), agent)
	}
	box := StartMiddlebox(t, *network.box)
	server := StartServer(t, append(args, "--access-url", box.URL.String())...)
	box.SetBackend(server.URL.Host)
	server.Front = box.URL
	site := siteOf(server, agent)
	site.Box = box
	return site
}

// identities are the clouds of a site; Google is not asked for its keys.
const identities = `
[[identity]]
type = "aws"
[[identity]]
type = "azure"
[[identity]]
type = "google"
offline = true
`

// NewPluginSite is NewSite with the shipped plugins.
func NewPluginSite(t testing.TB, agent string, args ...string) *Site {
	t.Helper()
	return NewConfiguredSite(t, identities, agent, args...)
}

// NewConfiguredSite is NewPluginSite with these providers.
func NewConfiguredSite(t testing.TB, text, agent string, args ...string) *Site {
	t.Helper()
	if dir := os.Getenv(EnvPlugins); dir != "" {
		text = fmt.Sprintf("plugin_dir = %q\n%s", dir, text)
	}
	config := filepath.Join(t.TempDir(), "moorline.toml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	server := StartServer(t, append(args, "--config", config)...)
	server.config = config
	return siteOf(server, agent)
}

// NewTLSSite is NewSite with TLS; people and agents trust the authority.
func NewTLSSite(t testing.TB, authority *Authority, agent string, args ...string) *Site {
	t.Helper()
	server := StartServer(t, append(args, authority.Args()...)...)
	server.trust = authority
	return siteOf(server, agent)
}
