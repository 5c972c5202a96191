package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"moorline.test/interop/internal/stat"
)

// fleet is all simulated agents and what was measured on them.
type fleet struct {
	url    *url.URL
	ticks  bool
	agents []*agent

	started time.Time
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu         sync.Mutex
	up         int           // agents whose session is complete
	lost       int           // sessions that ended since all were up
	dropping   int           // sessions that we broke and whose end is still to come
	brokenAt   time.Time     // when the first of them ended or was broken
	allUp      chan struct{} // closed while all are up
	firstAll   time.Duration // from the start until all were up
	recoveries []recovery
	failures   int
	firstError string
	calls      map[string]*stat.Samples
}

// recovery is one time that some agents were away and all came back.
type recovery struct {
	Lost    int     `json:"lost"`
	Seconds float64 `json:"seconds"`
}

// result is what is printed. Failures counts attempts, not agents.
type result struct {
	Mode         string                  `json:"mode"`
	Agents       int                     `json:"agents"`
	Connected    int                     `json:"connected"`
	Failures     int                     `json:"failures"`
	AllConnected float64                 `json:"seconds_until_all_connected"`
	Recoveries   []recovery              `json:"recoveries"`
	RPC          map[string]stat.Summary `json:"rpc"`
	FirstError   string                  `json:"first_error,omitempty"`
}

func (r result) rpcNames() []string {
	return slices.Sorted(maps.Keys(r.RPC))
}

func newFleet(target *url.URL, tokens []string, ticks bool) *fleet {
	f := &fleet{
		url:        target,
		ticks:      ticks,
		allUp:      make(chan struct{}),
		recoveries: []recovery{},
		calls:      map[string]*stat.Samples{},
	}
	for _, token := range tokens {
		f.agents = append(f.agents, newAgent(f, token))
	}
	return f
}

// start lets all agents dial at once, as a fleet does after a server restart.
func (f *fleet) start(ctx context.Context) {
	ctx, f.cancel = context.WithCancel(ctx)
	f.started = time.Now()
	for _, agent := range f.agents {
		f.running.Add(1)
		go func() {
			defer f.running.Done()
			agent.run(ctx)
		}()
	}
}

// stop ends all sessions and waits for them.
func (f *fleet) stop() {
	f.cancel()
	for _, agent := range f.agents {
		agent.sockets.breakAll()
	}
	f.running.Wait()
}

// awaitAll waits until every agent's session is complete.
func (f *fleet) awaitAll(ctx context.Context, within time.Duration) error {
	f.mu.Lock()
	allUp := f.allUp
	f.mu.Unlock()
	select {
	case <-allUp:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(within):
		return fmt.Errorf("%d of %d agents are connected after %v", f.connected(), len(f.agents), within)
	}
}

// dropAll breaks every TCP connection without a word and waits for all agents to
// come back.
func (f *fleet) dropAll(ctx context.Context, within time.Duration) error {
	f.mu.Lock()
	f.dropping = f.up
	f.brokenAt = time.Now()
	f.allUp = make(chan struct{})
	f.mu.Unlock()
	for _, agent := range f.agents {
		agent.sockets.breakAll()
	}
	return f.awaitAll(ctx, within)
}

func (f *fleet) connected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.up
}

// sessionUp notes that one more agent's session is complete.
func (f *fleet) sessionUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up++
	// The first agents may be back before the last has noticed that it was dropped.
	if f.up < len(f.agents) || f.dropping > 0 {
		return
	}
	if f.firstAll == 0 {
		f.firstAll = time.Since(f.started)
	} else if f.lost > 0 {
		f.recoveries = append(f.recoveries, recovery{Lost: f.lost, Seconds: time.Since(f.brokenAt).Seconds()})
	}
	f.lost = 0
	close(f.allUp)
}

// sessionDown notes the end of a session that was complete.
func (f *fleet) sessionDown() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropping > 0 {
		f.dropping--
	} else if f.up == len(f.agents) {
		f.allUp = make(chan struct{})
		f.brokenAt = time.Now()
	}
	f.up--
	if f.firstAll != 0 {
		f.lost++
	}
}

// fail notes an attempt that came to nothing.
func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures++
	if f.firstError == "" {
		f.firstError = err.Error()
	}
}

// took notes how long one call of this name took.
func (f *fleet) took(name string, took time.Duration) {
	f.mu.Lock()
	samples := f.calls[name]
	if samples == nil {
		samples = &stat.Samples{}
		f.calls[name] = samples
	}
	f.mu.Unlock()
	samples.Add(took)
}

func (f *fleet) result(mode string) result {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := result{
		Mode:         mode,
		Agents:       len(f.agents),
		Connected:    f.up,
		Failures:     f.failures,
		AllConnected: f.firstAll.Seconds(),
		Recoveries:   slices.Clone(f.recoveries),
		RPC:          map[string]stat.Summary{},
		FirstError:   f.firstError,
	}
	for name, samples := range f.calls {
		r.RPC[name] = samples.Summary()
	}
	return r
}
