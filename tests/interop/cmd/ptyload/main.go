// ptyload opens terminals of one agent through the server, as a browser does, and says how long each step took: until
// the first byte, from a key to its echo, until the screen of a terminal that was left is back; how fast bulk output
// comes and what it costs the server; and what terminals cost that do nothing. Output: one JSON object.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/procstat"
	"moorline.test/interop/internal/stat"
)

// bulk is what the shell prints, in base64: a third more arrives, and line ends.
const bulk = 20 << 20

// Result is what is printed.
type Result struct {
	Cold     float64      `json:"first_byte_cold_ms"`
	Warm     stat.Summary `json:"first_byte_warm"`
	Echo     stat.Summary `json:"echo"`
	Reattach stat.Summary `json:"reattach"`
	BulkMiB  float64      `json:"bulk_mib_per_second"`
	BulkCPU  float64      `json:"bulk_server_cpu_seconds"`
	IdleMiB  float64      `json:"idle_pss_added_mib"`
	Idle     int          `json:"idle_terminals"`
}

type load struct {
	ctx    context.Context
	client *workspacesdk.Client
	agent  uuid.UUID
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ptyload:", err)
		os.Exit(1)
	}
}

func run() error {
	target := flag.String("url", "", "the server")
	token := flag.String("token", "", "session token of somebody who may reach the agent")
	agent := flag.String("agent", "", "the agent's id")
	pid := flag.Int("pid", 0, "the server's process, to say what it costs")
	rounds := flag.Int("rounds", 20, "terminals to open one after the other")
	keys := flag.Int("keys", 2_000, "keys to type")
	idle := flag.Int("idle", 200, "terminals that do nothing")
	coldOnly := flag.Bool("cold", false, "stop after the first terminal")
	flag.Parse()
	base, err := url.Parse(*target)
	if err != nil {
		return err
	}
	id, err := uuid.Parse(*agent)
	if err != nil {
		return fmt.Errorf("--agent: %w", err)
	}
	client := codersdk.New(base)
	client.SetSessionToken(*token)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	l := load{ctx: ctx, client: workspacesdk.New(client), agent: id}
	var result Result

	cold, err := l.firstByte()
	if err != nil {
		return err
	}
	result.Cold = float64(cold.Microseconds()) / 1000
	if !*coldOnly {
		if err := l.warm(&result, *rounds, *keys); err != nil {
			return err
		}
		if err := l.bulk(&result, *pid); err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
		if err := l.idle(&result, *idle, *pid); err != nil {
			return fmt.Errorf("idle: %w", err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func (l load) open(id uuid.UUID, command string) (net.Conn, error) {
	return l.client.AgentReconnectingPTY(l.ctx, workspacesdk.WorkspaceAgentReconnectingPTYOpts{
		AgentID: l.agent, Reconnect: id, Width: 80, Height: 24, Command: command, BackendType: "buffered",
	})
}

// firstByte opens a terminal and waits for the first thing that its shell prints.
func (l load) firstByte() (time.Duration, error) {
	began := time.Now()
	conn, err := l.open(uuid.New(), "")
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	return time.Since(began), err
}

func (l load) warm(result *Result, rounds, keys int) error {
	var warm, echo, reattach stat.Samples
	for range rounds {
		took, err := l.firstByte()
		if err != nil {
			return err
		}
		warm.Add(took)
	}
	id := uuid.New()
	conn, err := l.open(id, "cat")
	if err != nil {
		return err
	}
	for key := range keys {
		letter := string(rune('a' + key%26))
		began := time.Now()
		if err := typing(conn, letter); err != nil {
			return err
		}
		if err := until(conn, letter); err != nil {
			return fmt.Errorf("echo: %w", err)
		}
		echo.Add(time.Since(began))
		if key%60 == 59 {
			// A line must not become longer than terminals take.
			if err := typing(conn, "\r"); err != nil {
				return err
			}
			time.Sleep(5 * time.Millisecond)
			if err := typing(conn, "."); err != nil {
				return err
			}
			if err := until(conn, "\n."); err != nil {
				return err
			}
		}
	}
	if err := typing(conn, "\rscreen-end\r"); err != nil {
		return err
	}
	if err := untilTimes(conn, "screen-end\r\n", 2); err != nil {
		return err
	}
	_ = conn.Close()
	for range rounds {
		began := time.Now()
		conn, err := l.open(id, "cat")
		if err != nil {
			return err
		}
		if err := untilTimes(conn, "screen-end\r\n", 2); err != nil {
			return fmt.Errorf("reattach: %w", err)
		}
		reattach.Add(time.Since(began))
		_ = conn.Close()
	}
	result.Warm, result.Echo, result.Reattach = warm.Summary(), echo.Summary(), reattach.Summary()
	return nil
}

func (l load) bulk(result *Result, pid int) error {
	before, err := cpu(pid)
	if err != nil {
		return err
	}
	began := time.Now()
	conn, err := l.open(uuid.New(), fmt.Sprintf("head -c %d /dev/zero | base64; echo bulk-end", bulk))
	if err != nil {
		return err
	}
	defer conn.Close()
	seen, tail, buffer := 0, []byte{}, make([]byte, 64<<10)
	for !bytes.Contains(tail, []byte("bulk-end")) {
		n, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		seen += n
		tail = append(tail[max(0, len(tail)-16):], buffer[:n]...)
	}
	took := time.Since(began)
	after, err := cpu(pid)
	if err != nil {
		return err
	}
	result.BulkMiB = float64(seen) / (1 << 20) / took.Seconds()
	result.BulkCPU = after - before
	return nil
}

func (l load) idle(result *Result, count, pid int) error {
	if pid == 0 || count == 0 {
		return nil
	}
	before, err := procstat.PSSBytes(pid)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, 0, count)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	for range count {
		conn, err := l.open(uuid.New(), "cat")
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		if err := typing(conn, "x"); err != nil {
			return err
		}
		if err := until(conn, "x"); err != nil {
			return err
		}
	}
	after, err := procstat.PSSBytes(pid)
	if err != nil {
		return err
	}
	result.Idle, result.IdleMiB = count, float64(after-before)/(1<<20)
	return nil
}

func cpu(pid int) (float64, error) {
	if pid == 0 {
		return 0, nil
	}
	return procstat.CPUSeconds(pid)
}

func typing(conn net.Conn, text string) error {
	message, err := json.Marshal(workspacesdk.ReconnectingPTYRequest{Data: text})
	if err != nil {
		return err
	}
	_, err = conn.Write(message)
	return err
}

// until reads up to this text.
func until(conn net.Conn, text string) error {
	return untilTimes(conn, text, 1)
}

func untilTimes(conn net.Conn, text string, times int) error {
	var seen []byte
	buffer := make([]byte, 32<<10)
	for bytes.Count(seen, []byte(text)) < times {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		n, err := conn.Read(buffer)
		if err != nil {
			return fmt.Errorf("%q does not come: %w", text, err)
		}
		seen = append(seen, buffer[:n]...)
	}
	return nil
}
