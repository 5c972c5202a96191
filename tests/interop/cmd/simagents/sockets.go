package main

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// sockets are the open TCP connections of one agent, so that they can be broken.
type sockets struct {
	transport *http.Transport

	mu   sync.Mutex
	open map[*net.TCPConn]struct{}
}

func newSockets() *sockets {
	s := &sockets{open: map[*net.TCPConn]struct{}{}}
	var dialer net.Dialer
	s.transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if tcp, ok := conn.(*net.TCPConn); ok {
				s.mu.Lock()
				s.open[tcp] = struct{}{}
				s.mu.Unlock()
				return tracked{tcp, s}, nil
			}
			return conn, nil
		},
	}
	return s
}

// breakAll resets every connection: the server gets no goodbye of any layer.
func (s *sockets) breakAll() {
	s.mu.Lock()
	open := s.open
	s.open = map[*net.TCPConn]struct{}{}
	s.mu.Unlock()
	for conn := range open {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
}

// tracked leaves the list when it is closed.
type tracked struct {
	*net.TCPConn
	owner *sockets
}

func (t tracked) Close() error {
	t.owner.mu.Lock()
	delete(t.owner.open, t.TCPConn)
	t.owner.mu.Unlock()
	return t.TCPConn.Close()
}
