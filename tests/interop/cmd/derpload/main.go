// derpload sends packets between pairs of the real relay client through one relay and says how fast they went
// and what they cost the relay's process. Output: one JSON object.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"

	"moorline.test/interop/internal/procstat"
)

// region is the relay's, as Moorline and the real server name it.
const region = 999

// connectWithin bounds everything before the first packet.
const connectWithin = 30 * time.Second

type options struct {
	base      *url.URL
	token     string
	agent     string
	pairs     int
	size      int
	window    int
	websocket bool
	duration  time.Duration
	idle      int
	pid       int
}

// Result is what is printed.
type Result struct {
	Mode        string  `json:"mode"`
	Transport   string  `json:"transport"`
	Pairs       int     `json:"pairs"`
	Size        int     `json:"size"`
	Seconds     float64 `json:"seconds"`
	Packets     int64   `json:"packets"`
	PerSecond   float64 `json:"packets_per_second,omitempty"`
	MiBPerS     float64 `json:"mib_per_second,omitempty"`
	CPUSeconds  float64 `json:"cpu_seconds,omitempty"`
	CPUPerGiB   float64 `json:"cpu_seconds_per_gib,omitempty"`
	Lost        int64   `json:"lost"`
	P50Millis   float64 `json:"p50_ms,omitempty"`
	P99Millis   float64 `json:"p99_ms,omitempty"`
	IdleClients int     `json:"idle_clients,omitempty"`
	IdleBytes   float64 `json:"bytes_per_idle_client,omitempty"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "derpload:", err)
		os.Exit(1)
	}
}

func run() error {
	var opts options
	target := flag.String("url", "", "the relay's server, like http://127.0.0.1:7080")
	mode := flag.String("mode", "throughput", "throughput, roundtrip or idle")
	flag.StringVar(&opts.token, "token", "", "session token; with --agent, each key is announced to the coordinator first")
	flag.StringVar(&opts.agent, "agent", "", "id of an agent that the token's owner may reach")
	flag.IntVar(&opts.pairs, "pairs", 1, "pairs of clients")
	flag.IntVar(&opts.size, "size", 1200, "bytes of a packet")
	flag.IntVar(&opts.window, "window", 64, "packets of a pair that are in flight at most")
	flag.BoolVar(&opts.websocket, "websocket", false, "reach the relay by WebSocket")
	flag.DurationVar(&opts.duration, "duration", 5*time.Second, "time to measure")
	flag.IntVar(&opts.idle, "idle", 0, "further clients that only stay connected")
	flag.IntVar(&opts.pid, "pid", 0, "the relay's process")
	flag.Parse()
	base, err := url.Parse(*target)
	if err != nil || base.Host == "" {
		return fmt.Errorf("--url %q is no URL", *target)
	}
	if opts.size < 8 || opts.window < 1 || opts.pairs < 1 {
		return fmt.Errorf("--size is at least 8, --window and --pairs at least 1")
	}
	opts.base = base
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	result := Result{Mode: *mode, Transport: "upgrade", Pairs: opts.pairs, Size: opts.size}
	if opts.websocket {
		result.Transport = "websocket"
	}
	if opts.idle > 0 {
		if err := stayIdle(ctx, opts, &result); err != nil {
			return err
		}
	}
	switch *mode {
	case "throughput":
		err = throughput(ctx, opts, &result)
	case "roundtrip":
		err = roundTrip(ctx, opts, &result)
	case "idle":
	default:
		err = fmt.Errorf("--mode %q is not known", *mode)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// end is one client of the relay.
type end struct {
	*derphttp.Client
	public key.NodePublic
}

// dial connects a client and, where asked, makes its key known first.
func dial(ctx context.Context, opts options) (end, error) {
	private := key.NewNode()
	if opts.token != "" {
		if err := announce(ctx, opts.base, opts.token, opts.agent, private.Public()); err != nil {
			return end{}, err
		}
	}
	port, err := strconv.Atoi(opts.base.Port())
	if err != nil {
		return end{}, fmt.Errorf("the URL needs a port: %w", err)
	}
	node := &tailcfg.DERPNode{
		Name: "999b", RegionID: region, HostName: opts.base.Hostname(), DERPPort: port, STUNPort: -1,
		ForceHTTP: opts.base.Scheme == "http",
	}
	client := derphttp.NewRegionClient(private, logger.Discard, nil, func() *tailcfg.DERPRegion {
		return &tailcfg.DERPRegion{RegionID: region, RegionCode: "coder", Nodes: []*tailcfg.DERPNode{node}}
	})
	client.ForceWebsockets = opts.websocket
	limited, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	if err := client.Connect(limited); err != nil {
		return end{}, fmt.Errorf("connect: %w", err)
	}
	return end{Client: client, public: private.Public()}, nil
}

// pair is two clients of which the second is sure to be served: a packet of the first has reached it.
func pair(ctx context.Context, opts options) (from, to end, err error) {
	if from, err = dial(ctx, opts); err != nil {
		return from, to, err
	}
	if to, err = dial(ctx, opts); err != nil {
		return from, to, err
	}
	arrived := make(chan error, 1)
	go func() { arrived <- nextPacket(to, func([]byte) {}) }()
	deadline := time.After(connectWithin)
	for {
		if err := from.Send(to.public, make([]byte, opts.size)); err != nil {
			return from, to, err
		}
		select {
		case err := <-arrived:
			return from, to, err
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			return from, to, fmt.Errorf("no packet came through in %v", connectWithin)
		}
	}
}

// nextPacket waits for one packet and shows it to use, whose slice is only good during the call.
func nextPacket(client end, use func([]byte)) error {
	for {
		message, err := client.Recv()
		if err != nil {
			return err
		}
		if packet, ok := message.(derp.ReceivedPacket); ok {
			use(packet.Data)
			return nil
		}
	}
}

// together runs work for each pair at once and gives the first error.
func together(pairs int, work func(index int) error) error {
	errs := make(chan error, pairs)
	var all sync.WaitGroup
	for index := range pairs {
		all.Add(1)
		go func() {
			defer all.Done()
			errs <- work(index)
		}()
	}
	all.Wait()
	for range pairs {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// stayIdle connects clients that do nothing, and says what they cost.
func stayIdle(ctx context.Context, opts options, result *Result) error {
	before, err := procstat.PSSBytes(opts.pid)
	if opts.pid != 0 && err != nil {
		return err
	}
	for range opts.idle {
		if _, err := dial(ctx, opts); err != nil {
			return err
		}
	}
	time.Sleep(time.Second)
	result.IdleClients = opts.idle
	if opts.pid != 0 {
		after, err := procstat.PSSBytes(opts.pid)
		if err != nil {
			return err
		}
		result.IdleBytes = float64(after-before) / float64(opts.idle)
	}
	return nil
}
