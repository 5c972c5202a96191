// stockrelay serves the relay of the release that the real clients are built from, as its own server does:
// by HTTP upgrade and by WebSocket. It is what `compare.sh` measures Moorline's relay against.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"

	"github.com/coder/coder/v2/tailnet"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address and port")
	flag.Parse()

	relay := derp.NewServer(key.NewNode(), logger.Discard)
	handler, stop := tailnet.WithWebsocketSupport(relay, derphttp.Handler(relay))
	defer stop()
	mux := http.NewServeMux()
	mux.Handle("/derp", handler)
	mux.HandleFunc("/derp/latency-check", func(http.ResponseWriter, *http.Request) {})

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stockrelay:", err)
		os.Exit(1)
	}
	fmt.Printf("ready url=http://%s pid=%d\n", listener.Addr(), os.Getpid())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintln(os.Stderr, "stockrelay:", server.Serve(listener))
	os.Exit(1)
}
