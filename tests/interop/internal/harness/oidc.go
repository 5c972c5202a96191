package harness

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// oidcBin is the name of the program in the cache.
const oidcBin = "oidc"

// The person whom the OpenID Connect provider knows.
const (
	OIDCUser     = "alice"
	OIDCPassword = "a password for the provider"
)

// OIDC is a real OpenID Connect provider; see providers/oidc.
type OIDC struct {
	// URL is the issuer.
	URL *url.URL

	t testing.TB
}

// StartOIDC starts one whose client `web` is sent back to this address.
func StartOIDC(t testing.TB, redirect string) *OIDC {
	t.Helper()
	bin, err := agentBin(oidcBin)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--redirect", redirect, "--password", OIDCPassword, OIDCUser)
	stdout, writer := io.Pipe()
	cmd.Stdout = writer
	child := startProcess(t, cmd, filepath.Join(t.TempDir(), "oidc.log"))
	t.Cleanup(func() {
		child.kill()
		child.showOnFailure(t, "oidc")
		_ = writer.Close()
	})
	ready := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if address, isIt := strings.CutPrefix(lines.Text(), "ready "); isIt {
				ready <- address
			}
		}
	}()
	select {
	case address := <-ready:
		parsed, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return &OIDC{URL: parsed, t: t}
	case <-child.done:
		t.Fatalf("the provider ended: %v\n%s", child.err, child.log())
	case <-time.After(startWithin):
		t.Fatalf("the provider was not ready within %v\n%s", startWithin, child.log())
	}
	return nil
}

// SignIn fills in the form of the page to which somebody was sent.
func (o *OIDC) SignIn(page *Page) *Page {
	return page.Submit("/login/username", map[string]string{"username": OIDCUser, "password": OIDCPassword})
}

// Enter enters the code of a device and says yes, or no.
func (o *OIDC) Enter(page *Page, code, decision string) {
	o.t.Helper()
	browser := page.browser
	page = browser.Post(page.URL.String(), url.Values{"user_code": {code}})
	page = page.Submit("/device/login", map[string]string{"username": OIDCUser, "password": OIDCPassword})
	if !strings.Contains(page.Words(), "grant device device access") {
		o.t.Fatalf("the provider does not ask for consent: %s", page.Words())
	}
	// The buttons are scripts.
	page = browser.Open(o.URL.JoinPath("/device/confirm").String() + "?action=" + decision)
	if !strings.Contains(page.Words(), "Device authorization "+decision) {
		o.t.Fatalf("the provider says: %s", page.Words())
	}
}

// Takes says whether the provider still takes an access token.
func (o *OIDC) Takes(token string) bool {
	o.t.Helper()
	return takes(o.t, o.URL.JoinPath("/userinfo"), token)
}

// takes asks at the address where providers tell whose a token is.
func takes(t testing.TB, address *url.URL, token string) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(Context(t, Patience), http.MethodGet, address.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	switch reply.StatusCode {
	case http.StatusOK:
		return true
	case http.StatusUnauthorized, http.StatusForbidden:
		return false
	}
	t.Fatalf("the provider answers %s", reply.Status)
	return false
}
