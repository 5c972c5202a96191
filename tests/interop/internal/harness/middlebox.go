package harness

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// MiddleboxOptions say how an HTTP proxy mistreats what passes through it.
type MiddleboxOptions struct {
	// Idle cuts a connection on which nothing was sent for this long; 0: never.
	Idle time.Duration
	// OtherUpgrade answers upgrades to anything but WebSocket, the relay's own
	// included; unset: a login page with status 200, as single sign-on does.
	OtherUpgrade http.HandlerFunc
	// HoldHalfOpen keeps the client's side of an upgraded connection open, and
	// silent, after the server's side has ended, as some load balancers do.
	HoldHalfOpen bool
}

// Middlebox is an HTTP proxy before a server that passes plain requests and
// WebSockets only.
type Middlebox struct {
	// URL is where it listens.
	URL *url.URL

	opts    MiddleboxOptions
	backend atomic.Pointer[string]
	closed  chan struct{}
	refused atomic.Int64

	mu   sync.Mutex
	open map[*idleConn]struct{}
	cut  []string
}

// LoginPage is what a proxy with single sign-on answers.
func LoginPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, "<!doctype html><title>Sign in</title><p>Please sign in.")
}

// StartMiddlebox starts one; it answers 502 until SetBackend was called.
func StartMiddlebox(t testing.TB, opts MiddleboxOptions) *Middlebox {
	t.Helper()
	if opts.OtherUpgrade == nil {
		opts.OtherUpgrade = LoginPage
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("middlebox: %v", err)
	}
	m := &Middlebox{
		URL:    &url.URL{Scheme: "http", Host: listener.Addr().String()},
		opts:   opts,
		closed: make(chan struct{}),
		open:   map[*idleConn]struct{}{},
	}
	plain, upgraded := m.proxy(false), m.proxy(opts.HoldHalfOpen)
	server := &http.Server{
		ReadHeaderTimeout: Patience,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if conn, ok := r.Context().Value(connKey{}).(*idleConn); ok {
				conn.path.Store(&r.URL.Path)
			}
			switch upgrade := r.Header.Get("Upgrade"); {
			case upgrade == "":
				plain.ServeHTTP(w, r)
			case strings.EqualFold(upgrade, "websocket"):
				upgraded.ServeHTTP(w, r)
			default:
				m.refused.Add(1)
				opts.OtherUpgrade(w, r)
			}
		}),
	}
	go func() { _ = server.Serve(idleListener{listener, m}) }()
	t.Cleanup(func() {
		close(m.closed)
		_ = server.Close()
		m.CutAll()
	})
	return m
}

// SetBackend names the server behind.
func (m *Middlebox) SetBackend(host string) { m.backend.Store(&host) }

// Refused counts the upgrades to something else than a WebSocket.
func (m *Middlebox) Refused() int64 { return m.refused.Load() }

// Cut are the paths of the connections that were cut because they were idle.
func (m *Middlebox) Cut() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.cut)
}

// CutAll cuts all connections of clients at once.
func (m *Middlebox) CutAll() {
	m.mu.Lock()
	open := m.open
	m.open = map[*idleConn]struct{}{}
	m.mu.Unlock()
	for conn := range open {
		_ = conn.Close()
	}
}

// connKey finds the connection of a request.
type connKey struct{}

func (m *Middlebox) proxy(hold bool) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "backend"
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			// One connection per request: each is cut by itself.
			DisableKeepAlives:  true,
			DisableCompression: true,
			Dial: func(network, _ string) (net.Conn, error) {
				host := m.backend.Load()
				if host == nil {
					return nil, fmt.Errorf("the middlebox has no backend yet")
				}
				conn, err := net.DialTimeout(network, *host, Patience)
				if err == nil && hold {
					conn = heldConn{conn, m.closed}
				}
				return conn, err
			},
		},
		FlushInterval: -1,
		// Connections break here on purpose.
		ErrorLog: log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "middlebox: "+err.Error(), http.StatusBadGateway)
		},
	}
}

// heldConn never says that the server's side has ended.
type heldConn struct {
	net.Conn
	closed chan struct{}
}

func (c heldConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n == 0 && err != nil {
		<-c.closed
	}
	return n, err
}

func (c heldConn) Write(p []byte) (int, error) {
	if n, err := c.Conn.Write(p); err == nil {
		return n, nil
	}
	return len(p), nil
}

// idleListener cuts connections on which nothing moves.
type idleListener struct {
	net.Listener
	box *Middlebox
}

func (l idleListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &idleConn{Conn: conn, box: l.box}
	l.box.mu.Lock()
	l.box.open[c] = struct{}{}
	l.box.mu.Unlock()
	if l.box.opts.Idle > 0 {
		c.timer = time.AfterFunc(l.box.opts.Idle, func() {
			path := "(no request)"
			if seen := c.path.Load(); seen != nil {
				path = *seen
			}
			l.box.mu.Lock()
			l.box.cut = append(l.box.cut, path)
			l.box.mu.Unlock()
			_ = c.Close()
		})
	}
	return c, nil
}

type idleConn struct {
	net.Conn
	box   *Middlebox
	timer *time.Timer
	path  atomic.Pointer[string]
}

func (c *idleConn) moved(n int) {
	if n > 0 && c.timer != nil {
		c.timer.Reset(c.box.opts.Idle)
	}
}

func (c *idleConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.moved(n)
	return n, err
}

func (c *idleConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.moved(n)
	return n, err
}

func (c *idleConn) Close() error {
	if c.timer != nil {
		c.timer.Stop()
	}
	c.box.mu.Lock()
	delete(c.box.open, c)
	c.box.mu.Unlock()
	return c.Conn.Close()
}
