// Command simagents stands for many agents at once. It uses the real client
// packages and makes every call that an agent makes when it connects, but runs no
// scripts, no tailnet and no processes. With --clients it also stands for people's
// clients, each of which coordinates with one agent; a client counts as connected
// once that agent has answered it.
//
//	connect  all agents connect, stay for --duration, and the result is printed
//	tick     as connect, and each agent reports every 10 s in the meantime
//	drop     as connect; then all TCP connections are broken at once and the time
//	         until all are back is printed. SIGUSR1, a line "drop" on stdin
//	         or the end of --duration, whichever comes first, starts the break
//
// Whoever loses its connection redials like the real one, in every mode.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	modeConnect = "connect"
	modeTick    = "tick"
	modeDrop    = "drop"
)

// allBackWithin ends a run in which some agent never comes (back).
const allBackWithin = 5 * time.Minute

func main() {
	var (
		base     = flag.String("url", "", "base URL of the server")
		tokens   = flag.String("tokens", "", "file with one agent token per line")
		clients  = flag.String("clients", "", "file with one client per line: session token, space, agent id")
		mode     = flag.String("mode", modeConnect, "connect, tick or drop")
		duration = flag.Duration("duration", 0, "how long to stay connected; in drop mode, when to drop at the latest")
		asJSON   = flag.Bool("json", false, "print JSON")
	)
	flag.Parse()
	if err := run(*base, *tokens, *clients, *mode, *duration, *asJSON); err != nil {
		fmt.Fprintln(os.Stderr, "simagents:", err)
		os.Exit(1)
	}
}

func run(base, tokensFile, clientsFile, mode string, duration time.Duration, asJSON bool) error {
	target, err := url.Parse(base)
	if err != nil || target.Host == "" {
		return fmt.Errorf("--url %q is not a base URL", base)
	}
	if mode != modeConnect && mode != modeTick && mode != modeDrop {
		return fmt.Errorf("--mode %q is none of connect, tick, drop", mode)
	}
	tokens, err := readTokens(tokensFile)
	if err != nil {
		return err
	}
	clients, err := readClients(clientsFile)
	if err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fleet := newFleet(target, tokens, clients, mode == modeTick)
	fleet.start(ctx)
	failed := fleet.awaitAll(ctx, allBackWithin)
	if failed == nil {
		fmt.Fprintf(os.Stderr, "simagents: %d agents connected, %d clients\n", len(tokens), len(clients))
		if mode == modeDrop {
			awaitTrigger(ctx, duration)
			failed = fleet.dropAll(ctx, allBackWithin)
		} else {
			failed = hold(ctx, duration, fleet)
		}
	}
	result := fleet.result(mode)
	fleet.stop()
	if err := printResult(result, asJSON); err != nil {
		return err
	}
	return failed
}

// hold stays connected for the given time.
func hold(ctx context.Context, duration time.Duration, fleet *fleet) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(duration):
	}
	if connected := fleet.connected(); connected < len(fleet.members) {
		return fmt.Errorf("%d of %d were connected at the end", connected, len(fleet.members))
	}
	return nil
}

// awaitTrigger returns when the connections are to be broken.
func awaitTrigger(ctx context.Context, latest time.Duration) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	lines := make(chan struct{}, 1)
	go func() {
		// A stdin that is closed or empty triggers nothing.
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			if strings.TrimSpace(input.Text()) == modeDrop {
				lines <- struct{}{}
				return
			}
		}
	}()
	select {
	case <-ctx.Done():
	case <-signals:
	case <-lines:
	case <-time.After(latest):
	}
}

func readTokens(path string) ([]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--tokens: %w", err)
	}
	tokens := strings.Fields(string(content))
	if len(tokens) == 0 {
		return nil, fmt.Errorf("--tokens: %s has no token", path)
	}
	return tokens, nil
}

func printResult(result result, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	}
	fmt.Printf("%s: %d agents, %d clients, %d connected, %d failures, all connected after %.3f s\n",
		result.Mode, result.Agents, result.Clients, result.Connected, result.Failures, result.AllConnected)
	for _, back := range result.Recoveries {
		fmt.Printf("lost %d, all back after %.3f s\n", back.Lost, back.Seconds)
	}
	for _, name := range result.rpcNames() {
		s := result.RPC[name]
		fmt.Printf("%-36s %8d calls  p50 %9.3f ms  p99 %9.3f ms  max %9.3f ms\n", name, s.Count, s.P50, s.P99, s.Max)
	}
	if result.FirstError != "" {
		fmt.Println("first error:", result.FirstError)
	}
	return nil
}
