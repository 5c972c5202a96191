// Command oidc is a real OpenID Connect provider with two people and two clients, which forgets all when it ends: the
// example server of a certified library. Its clients are `web`, for browsers, and `device`; the secret of both is `secret`.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	redirect := flag.String("redirect", "", "where the client `web` has people sent back to")
	flag.Parse()
	if err := serve(*redirect); err != nil {
		fmt.Fprintln(os.Stderr, "oidc:", err)
		os.Exit(1)
	}
}

func serve(redirect string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	issuer := "http://" + listener.Addr().String()
	storage.RegisterClients(
		storage.WebClient("web", "secret", redirect),
		storage.DeviceClient("device", "secret"),
	)
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	provider := exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore(issuer)), logger, false)
	fmt.Println("ready", issuer)
	return http.Serve(listener, provider)
}
