// reachload reaches one agent as the real command line does, again and again, and says how long each step took:
// until the agent answers, a ping, bulk TCP both ways, an SSH session that runs `true`. Output: one JSON object.
//
// The agent must run on this machine: it connects to a port that reachload listens on.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/stat"
)

// bulk is what is sent each way.
const bulk = 64 << 20

// Result is what is printed.
type Result struct {
	Direct    bool         `json:"direct"`
	Rounds    int          `json:"rounds"`
	Reachable stat.Summary `json:"reachable"`
	Ping      stat.Summary `json:"ping"`
	SSHTrue   stat.Summary `json:"ssh_true"`
	ToMiB     float64      `json:"tcp_to_agent_mib_per_second"`
	FromMiB   float64      `json:"tcp_from_agent_mib_per_second"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "reachload:", err)
		os.Exit(1)
	}
}

func run() error {
	target := flag.String("url", "", "the server")
	token := flag.String("token", "", "session token of somebody who may reach the agent")
	agent := flag.String("agent", "", "the agent's id")
	relay := flag.Bool("relay", false, "use the relay only")
	rounds := flag.Int("rounds", 10, "connections to make")
	flag.Parse()
	base, err := url.Parse(*target)
	if err != nil {
		return err
	}
	agentID, err := uuid.Parse(*agent)
	if err != nil {
		return fmt.Errorf("--agent: %w", err)
	}
	client := codersdk.New(base)
	client.SetSessionToken(*token)
	client.DisableDirectConnections = *relay
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()

	result := Result{Direct: !*relay, Rounds: *rounds}
	var reachable, ping, session stat.Samples
	for round := range *rounds {
		began := time.Now()
		conn, err := workspacesdk.New(client).DialAgent(ctx, agentID, &workspacesdk.DialAgentOptions{})
		if err != nil {
			return err
		}
		reachable.Add(time.Since(began))
		if err := settle(ctx, conn, !*relay); err != nil {
			return err
		}
		for range 20 {
			took, _, _, err := conn.Ping(ctx)
			if err != nil {
				return fmt.Errorf("ping: %w", err)
			}
			ping.Add(took)
		}
		for range 3 {
			began := time.Now()
			if err := runTrue(ctx, conn); err != nil {
				return fmt.Errorf("ssh: %w", err)
			}
			session.Add(time.Since(began))
		}
		if round == *rounds-1 {
			if result.ToMiB, result.FromMiB, err = transfer(ctx, conn); err != nil {
				return fmt.Errorf("transfer: %w", err)
			}
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	result.Reachable, result.Ping, result.SSHTrue = reachable.Summary(), ping.Summary(), session.Summary()
	return json.NewEncoder(os.Stdout).Encode(result)
}

// settle pings until the path is the one that is asked for.
func settle(ctx context.Context, conn *workspacesdk.AgentConn, direct bool) error {
	end := time.Now().Add(20 * time.Second)
	for time.Now().Before(end) {
		_, p2p, _, err := conn.Ping(ctx)
		if err == nil && p2p == direct {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("no path with direct=%v came about in 20 s", direct)
}

func runTrue(ctx context.Context, conn *workspacesdk.AgentConn) error {
	client, err := conn.SSHClient(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	return session.Run("true")
}

// transfer sends bulk bytes through the agent to a listener here, and gets as many back.
func transfer(ctx context.Context, conn *workspacesdk.AgentConn) (to, from float64, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	defer listener.Close()
	took := make(chan error, 1)
	go func() {
		far, err := listener.Accept()
		if err != nil {
			took <- err
			return
		}
		defer far.Close()
		if _, err = io.CopyN(io.Discard, far, bulk); err == nil {
			if _, err = far.Write([]byte{1}); err == nil {
				_, err = io.CopyN(far, zeros{}, bulk)
			}
		}
		took <- err
	}()
	near, err := conn.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return 0, 0, err
	}
	defer near.Close()
	began := time.Now()
	if _, err := io.CopyN(near, zeros{}, bulk); err != nil {
		return 0, 0, err
	}
	if _, err := io.ReadFull(near, make([]byte, 1)); err != nil {
		return 0, 0, err
	}
	there := time.Since(began)
	began = time.Now()
	if _, err := io.CopyN(io.Discard, near, bulk); err != nil {
		return 0, 0, err
	}
	back := time.Since(began)
	return bulk / there.Seconds() / (1 << 20), bulk / back.Seconds() / (1 << 20), <-took
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
