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

const (
	// Each further redial of agents and clients is this much later, 10 s at most.
	backoffRatio   = 1.618
	backoffCeiling = 10 * time.Second
)

// member is a simulated agent or client.
type member interface {
	// run keeps it connected until ctx ends.
	run(ctx context.Context)
	// breakAll resets its connections.
	breakAll()
}

// fleet is all simulated agents and clients and what was measured on them.
type fleet struct {
	url     *url.URL
	ticks   bool
	members []member
	agents  int // how many of the members are agents

	started time.Time
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu         sync.Mutex
	up         int           // members whose session is complete
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

// recovery is one time that some were away and all came back.
type recovery struct {
	Lost    int     `json:"lost"`
	Seconds float64 `json:"seconds"`
}

// result is what is printed. Failures counts attempts, not agents; clients count
// as connected and lost like agents.
type result struct {
	Mode         string                  `json:"mode"`
	Agents       int                     `json:"agents"`
	Clients      int                     `json:"clients"`
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

func newFleet(target *url.URL, tokens []string, clients []clientLine, ticks bool) *fleet {
	f := &fleet{
		url:        target,
		ticks:      ticks,
		agents:     len(tokens),
		allUp:      make(chan struct{}),
		recoveries: []recovery{},
		calls:      map[string]*stat.Samples{},
	}
	for _, token := range tokens {
		f.members = append(f.members, newAgent(f, token))
	}
	for _, line := range clients {
		f.members = append(f.members, newClient(f, line))
	}
	return f
}

// start lets all agents dial at once, as a fleet does after a server restart.
func (f *fleet) start(ctx context.Context) {
	ctx, f.cancel = context.WithCancel(ctx)
	f.started = time.Now()
	for _, one := range f.members {
		f.running.Add(1)
		go func() {
			defer f.running.Done()
			one.run(ctx)
		}()
	}
}

// keep repeats a session with the pauses of the real programs until ctx ends.
func (f *fleet) keep(ctx context.Context, floor time.Duration, session func(context.Context) (bool, error)) {
	var pause time.Duration
	for ctx.Err() == nil {
		if pause > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
		pause = min(max(time.Duration(float64(pause)*backoffRatio), time.Duration(float64(floor)*backoffRatio)), backoffCeiling)
		complete, err := session(ctx)
		if complete {
			pause = 0
		}
		if err != nil && ctx.Err() == nil && !complete {
			f.fail(err)
		}
	}
}

// stop ends all sessions and waits for them.
func (f *fleet) stop() {
	f.cancel()
	for _, one := range f.members {
		one.breakAll()
	}
	f.running.Wait()
}

// awaitAll waits until every member's session is complete.
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
		return fmt.Errorf("%d of %d are connected after %v", f.connected(), len(f.members), within)
	}
}

// dropAll breaks every TCP connection without a word and waits for all to come
// back.
func (f *fleet) dropAll(ctx context.Context, within time.Duration) error {
	f.mu.Lock()
	f.dropping = f.up
	f.brokenAt = time.Now()
	f.allUp = make(chan struct{})
	f.mu.Unlock()
	for _, one := range f.members {
		one.breakAll()
	}
	return f.awaitAll(ctx, within)
}

func (f *fleet) connected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.up
}

// sessionUp notes that one more session is complete.
func (f *fleet) sessionUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up++
	// The first may be back before the last has noticed that it was dropped.
	if f.up < len(f.members) || f.dropping > 0 {
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
	} else if f.up == len(f.members) {
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
		Agents:       f.agents,
		Clients:      len(f.members) - f.agents,
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

// step is one call under the name that its time is reported by.
type step struct {
	name string
	call func() error
}

// timed makes the call and records how long it took.
func (f *fleet) timed(s step) error {
	began := time.Now()
	if err := s.call(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	f.took(s.name, time.Since(began))
	return nil
}
