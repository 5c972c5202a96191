package harness

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
)

// WebProxy is a company's HTTP proxy: it opens connections by CONNECT, to hosts
// that nobody else can resolve.
type WebProxy struct {
	// URL is for HTTPS_PROXY.
	URL *url.URL

	mu    sync.Mutex
	hosts map[string]string
	asked []string
}

// StartWebProxy starts one that knows the addresses of these `host:port` names.
func StartWebProxy(t testing.TB, hosts map[string]string) *WebProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("web proxy: %v", err)
	}
	p := &WebProxy{URL: &url.URL{Scheme: "http", Host: listener.Addr().String()}, hosts: hosts}
	server := &http.Server{Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: Patience}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

// SetHost names the address of one more `host:port`.
func (p *WebProxy) SetHost(host, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hosts[host] = address
}

// Asked are the hosts that connections were asked for, once each, sorted.
func (p *WebProxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := slices.Clone(p.asked)
	slices.Sort(asked)
	return slices.Compact(asked)
}

func (p *WebProxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Host)
	address, known := p.hosts[r.Host]
	p.mu.Unlock()
	if r.Method != http.MethodConnect || !known {
		http.Error(w, "this proxy opens no way to "+r.Host, http.StatusForbidden)
		return
	}
	server, err := net.DialTimeout("tcp", address, Patience)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() {
		_, _ = io.Copy(server, buffered)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
}
