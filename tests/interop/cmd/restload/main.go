// Command restload repeats one HTTP request over a fixed number of kept
// connections and prints what the server managed, as JSON.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"moorline.test/interop/internal/stat"
)

// requestTimeout bounds one request, so that a stalled server ends the run.
const requestTimeout = 30 * time.Second

type options struct {
	url, path, method, bodyFile string
	headers                     headerFlag
	connections, seconds        int
}

// headerFlag collects repeated `--header name=value`.
type headerFlag http.Header

func (h headerFlag) String() string { return "" }

func (h headerFlag) Set(pair string) error {
	name, value, ok := strings.Cut(pair, "=")
	if !ok {
		return fmt.Errorf("%q is not name=value", pair)
	}
	http.Header(h).Add(name, value)
	return nil
}

// result is what is printed.
type result struct {
	Method            string         `json:"method"`
	Path              string         `json:"path"`
	Connections       int            `json:"connections"`
	Seconds           float64        `json:"seconds"`
	Requests          int64          `json:"requests"`
	RequestsPerSecond float64        `json:"requests_per_second"`
	P50               float64        `json:"p50_ms"`
	P99               float64        `json:"p99_ms"`
	Max               float64        `json:"max_ms"`
	Failures          int64          `json:"failures"`
	Statuses          map[string]int `json:"statuses"`
	FirstError        string         `json:"first_error,omitempty"`
}

func main() {
	opts := options{headers: headerFlag{}}
	flag.StringVar(&opts.url, "url", "", "base URL of the server")
	flag.StringVar(&opts.path, "path", "/", "path and query to ask for")
	flag.StringVar(&opts.method, "method", http.MethodGet, "HTTP method")
	flag.StringVar(&opts.bodyFile, "body-file", "", "file to send as body")
	flag.Var(opts.headers, "header", "name=value to send, may be repeated")
	flag.IntVar(&opts.connections, "connections", 16, "connections in parallel")
	flag.IntVar(&opts.seconds, "seconds", 10, "how long to run")
	flag.Parse()
	if opts.url == "" || opts.connections < 1 || opts.seconds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	outcome, err := load(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "restload:", err)
		os.Exit(1)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(outcome); err != nil {
		fmt.Fprintln(os.Stderr, "restload:", err)
		os.Exit(1)
	}
}

func load(opts options) (result, error) {
	var body []byte
	if opts.bodyFile != "" {
		var err error
		if body, err = os.ReadFile(opts.bodyFile); err != nil {
			return result{}, err
		}
	}
	client := &http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			MaxConnsPerHost:     opts.connections,
			MaxIdleConnsPerHost: opts.connections,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	var samples stat.Samples
	var failures atomic.Int64
	var mu sync.Mutex
	statuses, firstError := map[string]int{}, ""
	start := time.Now()
	deadline := start.Add(time.Duration(opts.seconds) * time.Second)
	var workers sync.WaitGroup
	for range opts.connections {
		workers.Add(1)
		go func() {
			defer workers.Done()
			seen := map[string]int{}
			for time.Now().Before(deadline) {
				began := time.Now()
				status, err := once(client, opts, body)
				samples.Add(time.Since(began))
				if err != nil || status >= 400 {
					failures.Add(1)
				}
				if err == nil {
					seen[fmt.Sprint(status)]++
					continue
				}
				mu.Lock()
				if firstError == "" {
					firstError = err.Error()
				}
				mu.Unlock()
			}
			mu.Lock()
			for status, n := range seen {
				statuses[status] += n
			}
			mu.Unlock()
		}()
	}
	workers.Wait()
	took := time.Since(start).Seconds()
	summary := samples.Summary()
	return result{
		Method:            opts.method,
		Path:              opts.path,
		Connections:       opts.connections,
		Seconds:           took,
		Requests:          int64(summary.Count),
		RequestsPerSecond: float64(summary.Count) / took,
		P50:               summary.P50,
		P99:               summary.P99,
		Max:               summary.Max,
		Failures:          failures.Load(),
		Statuses:          statuses,
		FirstError:        firstError,
	}, nil
}

// once sends the request and reads the whole answer, which is what lets the
// connection be used again.
func once(client *http.Client, opts options, body []byte) (int, error) {
	req, err := http.NewRequest(opts.method, strings.TrimRight(opts.url, "/")+opts.path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, values := range opts.headers {
		req.Header[name] = values
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}
