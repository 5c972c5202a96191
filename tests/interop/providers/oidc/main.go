// Command oidc is a real OpenID Connect provider with a few people and two clients, which forgets all when it ends: the
// example server of a certified library. Its clients are `web`, for browsers, and `device`; the secret of both is
// `secret`. It does not know afterwards for which client it made a device's token, and so refuses to revoke it.
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

// people are those who can sign in, by name; all with one password. The example's own have ids besides, which its
// device flow takes for names.
type people map[string]*storage.User

func (p people) GetUserByID(id string) *storage.User         { return p[id] }
func (p people) GetUserByUsername(name string) *storage.User { return p[name] }
func (p people) ExampleClientID() string                     { return storage.ServiceUserID }

func main() {
	redirect := flag.String("redirect", "", "where the client `web` has people sent back to")
	password := flag.String("password", "", "everybody's password")
	flag.Parse()
	known := people{}
	for _, name := range flag.Args() {
		known[name] = &storage.User{ID: name, Username: name, Password: *password, Email: name + "@example.test"}
	}
	if err := serve(*redirect, known); err != nil {
		fmt.Fprintln(os.Stderr, "oidc:", err)
		os.Exit(1)
	}
}

func serve(redirect string, known people) error {
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
	provider := exampleop.SetupServer(issuer, storage.NewStorage(known), logger, false)
	fmt.Println("ready", issuer)
	return http.Serve(listener, provider)
}
