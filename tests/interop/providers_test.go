package interop

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"

	"moorline.test/interop/internal/harness"
)

// openID is the table of the configuration for an OpenID Connect provider, of
// which only the issuer is given.
func openID(provider *harness.OIDC, id, client, more string) string {
	return fmt.Sprintf(`
[[external_auth]]
type = "oidc"
id = %q
client_id = %q
client_secret = "secret"
issuer = %q
scopes = ["openid", "profile", "offline_access"]
%s
`, id, client, provider.URL, more)
}

func TestOpenIDConnectNeedsAnIssuerOnly(t *testing.T) {
	t.Parallel()
	site := harness.NewPluginSite(t, "")
	provider := harness.StartOIDC(t, callback(site, "id"))
	site.AddProviders(openID(provider, "id", "web", `
display_name = "Company"
extra_token_keys = ["token_type", "id_token"]
code_challenge_methods_supported = ["S256"]
`))
	browser := signedIn(t, site, harness.Owner)
	address := site.Front.JoinPath("/external-auth/id").String()
	page := provider.SignIn(browser.Open(address))
	require.Equal(t, "/external-auth/id", page.URL.Path, page.Words())
	require.Contains(t, page.Words(), "You are signed in at Company")
	out := accessToken(site, site.Token, "id")
	require.Zero(t, out.Code, out.Stderr)
	token := out.Stdout
	require.True(t, provider.Takes(token))

	extra := func(path string) harness.Output {
		return site.RunTool(nil, "external-auth", "access-token", "id", "--extra", path)
	}
	require.Equal(t, "Bearer", extra("token_type").Stdout)
	require.Len(t, strings.Split(extra("id_token").Stdout, "."), 3)
	require.Empty(t, extra("nothing").Stdout)

	// Signed out: the provider has revoked the refresh token, and with it the access token.
	page = page.Press("/external-auth/id", "action", "unlink")
	require.Contains(t, page.Words(), "The provider has revoked the token.")
	require.False(t, provider.Takes(token))
	require.Equal(t, address, accessToken(site, site.Token, "id").Stdout)

	// The sign-in that was given up at the provider, or that never was one.
	page = browser.Open(callback(site, "id") + "?error=access_denied&error_description=Not+today")
	require.Equal(t, http.StatusBadRequest, page.Status)
	require.Contains(t, page.Words(), "access_denied")
	require.Contains(t, page.Words(), "Not today")
	page = browser.Open(callback(site, "id") + "?code=stolen&state=guessed")
	require.Equal(t, http.StatusUnauthorized, page.Status)
	noSecrets(t, site, token)
}

func TestPeopleSignInByDevice(t *testing.T) {
	t.Parallel()
	site := harness.NewPluginSite(t, "")
	provider := harness.StartOIDC(t, callback(site, "id"))
	site.AddProviders(openID(provider, "id", "device", "device_flow = true\nclient_auth = \"basic\"\n"))
	ctx := harness.Context(t, 3*harness.Patience)
	elsewhere := harness.NewBrowser(t)

	// As a program does it.
	device, err := site.Client.ExternalAuthDeviceByID(ctx, "id")
	require.NoError(t, err)
	require.Equal(t, provider.URL.JoinPath("/device").String(), device.VerificationURI)
	exchange := func(code string) error {
		return site.Client.ExternalAuthDeviceExchange(ctx, "id", codersdk.ExternalAuthDeviceExchange{DeviceCode: code})
	}
	said := func(err error) string {
		var refused *codersdk.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, http.StatusBadRequest, refused.StatusCode())
		return refused.Detail
	}
	require.Equal(t, "authorization_pending", said(exchange(device.DeviceCode)))
	provider.Enter(elsewhere.Open(device.VerificationURI), device.UserCode, "denied")
	require.Equal(t, "access_denied", said(exchange(device.DeviceCode)))
	device, err = site.Client.ExternalAuthDeviceByID(ctx, "id")
	require.NoError(t, err)
	provider.Enter(elsewhere.Open(device.VerificationURI), device.UserCode, "allowed")
	require.NoError(t, exchange(device.DeviceCode))
	token := accessToken(site, site.Token, "id")
	require.Zero(t, token.Code, token.Stderr)
	require.True(t, provider.Takes(token.Stdout))
	require.NoError(t, site.Client.UnlinkExternalAuthByID(ctx, "id"))
	require.Equal(t, 1, accessToken(site, site.Token, "id").Code)

	// As a person does it, with two browsers.
	browser := signedIn(t, site, harness.Owner)
	page := browser.Open(site.Front.JoinPath("/external-auth/id").String())
	code := page.TextOf("code")
	require.NotEmpty(t, code, page.Words())
	page = page.Press("/external-auth/id", "action", "check")
	require.Contains(t, page.Words(), "has not got the code from you yet")
	require.Equal(t, code, page.TextOf("code"), "it is still this one")
	provider.Enter(elsewhere.Open(provider.URL.JoinPath("/device").String()), code, "allowed")
	page = page.Press("/external-auth/id", "action", "check")
	require.Contains(t, page.Words(), "You are signed in at")
	require.Zero(t, accessToken(site, site.Token, "id").Code)
	page = page.Press("/external-auth/id", "action", "unlink")
	require.Contains(t, page.Words(), "The provider has not revoked the token")
}

func TestTheTestOfAProviderNamesTheStepThatFails(t *testing.T) {
	t.Parallel()
	gitea := harness.SharedGitea(t)
	alice := account(t, gitea, "alice")
	site := harness.NewPluginSite(t, "")
	app := gitea.NewApp(t, alice, callback(site, "gitea"), callback(site, "validate"))
	public := gitea.NewPublicApp(t, alice, callback(site, "public"))
	wrongSecret, wrongClient, stopped := app, app, *gitea
	wrongSecret.Secret = "gto_wrong"
	wrongClient.Client = "00000000-0000-4000-8000-000000000000"
	nowhere := *gitea.URL
	nowhere.Host = "127.0.0.1:" + harness.FreePort(t)
	stopped.URL = &nowhere
	site.AddProviders(gitea.Provider(app, "") +
		gitea.Provider(public, `id = "public"`) +
		gitea.Provider(wrongSecret, `id = "secret"`) +
		gitea.Provider(wrongClient, `id = "client"`) +
		stopped.Provider(app, `id = "stopped"`) +
		gitea.Provider(app, `id = "library"`+"\n"+`sha256 = "`+strings.Repeat("0", 64)+`"`) +
		gitea.Provider(app, `id = "validate"`+"\n"+`validate_url = "`+gitea.URL.JoinPath("/nothing").String()+`"`))

	// Without a sign-in it goes as far as it can, and says what comes next.
	out := site.TestProvider("gitea")
	require.Zero(t, out.Code, out.Stdout+out.Stderr)
	for _, step := range []string{"configuration", "library", "settings", "authorize address", "token address"} {
		require.Contains(t, out.Stdout, "ok     "+step+": ")
	}
	require.Contains(t, out.Stdout, "external-auth test gitea --code CODE")

	for id, expected := range map[string][]string{
		"secret":  {"token address", "refuses the client_id or its secret"},
		"client":  {"token address", "refuses the client_id or its secret"},
		"stopped": {"token address", "refused"},
		"library": {"library", "SHA-256"},
	} {
		out := site.TestProvider(id)
		require.Equal(t, 1, out.Code, id)
		require.Contains(t, out.Stdout, "failed "+expected[0]+": ", id)
		require.Contains(t, strings.ToLower(out.Stdout), strings.ToLower(expected[1]), id)
		require.Contains(t, out.Stderr, fmt.Sprintf("provider %s: the step `%s` failed", id, expected[0]))
		require.NotContains(t, out.Stdout+out.Stderr, app.Secret)
		require.NotContains(t, out.Stdout+out.Stderr, "gto_wrong")
	}
	out = site.TestProvider("nosuch")
	require.Equal(t, 1, out.Code)
	require.Contains(t, out.Stderr, "gitea, public, secret, client, stopped, library, validate")

	// With one it goes to the end, by the code in the address to which the browser is sent.
	code := func(id string) string {
		out := site.TestProvider(id)
		require.Zero(t, out.Code, out.Stdout+out.Stderr)
		_, after, isIt := strings.Cut(out.Stdout, "Next: open ")
		require.True(t, isIt, out.Stdout)
		browser := harness.NewBrowser(t).Stopping("/external-auth/" + id + "/callback")
		address := gitea.Grant(browser.Open(strings.Fields(after)[0]), alice).URL
		require.NotEmpty(t, address.Query().Get("code"), address)
		return address.Query().Get("code")
	}
	var given string
	for _, id := range []string{"public", "gitea"} {
		given = code(id)
		out = site.TestProvider(id, "--code", given)
		require.Zero(t, out.Code, out.Stdout+out.Stderr)
		for _, step := range []string{"exchange", "validate", "refresh", "validate again"} {
			require.Contains(t, out.Stdout, "ok     "+step+": ")
		}
	}
	out = site.TestProvider("gitea", "--code", given)
	require.Equal(t, 1, out.Code, "a code is good for one use")
	require.Contains(t, out.Stdout, "failed exchange: ")
	out = site.TestProvider("validate", "--code", code("validate"))
	require.Equal(t, 1, out.Code)
	require.Contains(t, out.Stdout, "ok     exchange: ")
	require.Contains(t, out.Stdout, "failed validate: ")
}

func TestTheTestOfAProviderRevokesItsOwnToken(t *testing.T) {
	t.Parallel()
	site := harness.NewPluginSite(t, "")
	provider := harness.StartOIDC(t, callback(site, "id"))
	site.AddProviders(openID(provider, "id", "web", ""))
	out := site.TestProvider("id")
	require.Zero(t, out.Code, out.Stdout+out.Stderr)
	_, after, _ := strings.Cut(out.Stdout, "Next: open ")
	browser := harness.NewBrowser(t).Stopping("/external-auth/id/callback")
	address := provider.SignIn(browser.Open(strings.Fields(after)[0])).URL
	out = site.TestProvider("id", "--code", address.Query().Get("code"))
	require.Zero(t, out.Code, out.Stdout+out.Stderr)
	for _, step := range []string{"exchange", "validate", "refresh", "validate again", "revoke"} {
		require.Contains(t, out.Stdout, "ok     "+step+": ")
	}
}
