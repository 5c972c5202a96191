package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"
	"github.com/coder/websocket"

	"moorline.test/interop/internal/harness"
)

// sentenceWithin is how long somebody may look at an empty terminal.
const sentenceWithin = 12 * time.Second

// refusal opens a terminal that is refused before the upgrade.
func refusal(t *testing.T, client *codersdk.Client, opts workspacesdk.WorkspaceAgentReconnectingPTYOpts) *codersdk.Error {
	t.Helper()
	_, err := workspacesdk.New(client).AgentReconnectingPTY(harness.Context(t, harness.Patience), opts)
	var refused *codersdk.Error
	require.ErrorAs(t, err, &refused)
	return refused
}

func TestATerminalOfAnAgentThatIsAwaySaysSo(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	never := refusal(t, site.Client, ptyOf(site))
	require.Equal(t, http.StatusBadGateway, never.StatusCode())
	require.Contains(t, never.Message, "connecting")

	agent := site.StartAgent(harness.AgentOptions{})
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	opts := ptyOf(site)
	shell := openTerminal(t, site.Client, opts)
	shell.sum(1, 1)

	// Frozen, it still counts as connected for a while: who opens a terminal now gets a sentence.
	agent.Signal(syscall.SIGSTOP)
	began := time.Now()
	other := openTerminal(t, site.Client, ptyOf(site))
	err := other.ended()
	require.Less(t, time.Since(began), sentenceWithin)
	require.Equal(t, websocket.StatusInternalError, websocket.CloseStatus(err))
	require.ErrorContains(t, err, "does not answer")
	agent.Signal(syscall.SIGCONT)
	shell.sum(2, 2)

	// A process that is gone takes its shells with it; the next one has a key of its own.
	agent.Kill()
	site.StartAgent(harness.AgentOptions{})
	err = shell.ended()
	require.Equal(t, websocket.StatusInternalError, websocket.CloseStatus(err))
	require.ErrorContains(t, err, "restarted")
	site.WaitState(codersdk.WorkspaceAgentLifecycleReady)
	openTerminal(t, site.Client, opts).sum(3, 3)
}

func TestTerminalsRefuseWhatIsWrong(t *testing.T) {
	t.Parallel()
	site, _ := readySite(t, "")
	id := site.Agent().ID
	path := fmt.Sprintf("/api/v2/workspaceagents/%s/pty", id)
	get := func(query string, header http.Header) (*http.Response, error) {
		address := strings.Replace(site.URL.String(), "http", "ws", 1) + path + query
		_, reply, err := websocket.Dial(harness.Context(t, harness.Patience), address, &websocket.DialOptions{HTTPHeader: header})
		return reply, err
	}
	token := site.Client.SessionToken()
	good := "?reconnect=0badc0de-0000-4000-8000-000000000001"

	reply, err := get("?width=x&height=-1", http.Header{codersdk.SessionTokenHeader: {token}})
	require.Error(t, err)
	require.Equal(t, http.StatusBadRequest, reply.StatusCode)
	var said codersdk.Response
	require.NoError(t, json.NewDecoder(reply.Body).Decode(&said))
	require.Len(t, said.Validations, 3, "%+v", said)

	reply, err = get(good+"&command="+strings.Repeat("x", 2_000), http.Header{codersdk.SessionTokenHeader: {token}})
	require.Error(t, err)
	require.Equal(t, http.StatusBadRequest, reply.StatusCode)

	// A page of another site has the browser's cookie and may not use it.
	cookie := codersdk.SessionTokenCookie + "=" + token
	reply, err = get(good, http.Header{"Cookie": {cookie}, "Origin": {"https://elsewhere.example"}})
	require.Error(t, err)
	require.Equal(t, http.StatusForbidden, reply.StatusCode)
	for _, header := range []http.Header{
		{"Cookie": {cookie}, "Origin": {site.URL.String()}},
		{"Cookie": {cookie}},
		{codersdk.SessionTokenHeader: {token}},
	} {
		_, err = get(good, header)
		require.NoError(t, err)
	}
	_, err = get(good+"&"+codersdk.SessionTokenCookie+"="+token, nil)
	require.NoError(t, err)

	reply, err = get(good, nil)
	require.Error(t, err)
	require.Equal(t, http.StatusNotFound, reply.StatusCode, "nothing is shown to who is not signed in")
	site.AddUser("bob", false)
	bob := refusal(t, site.UserClient(site.CreateToken("bob")), ptyOf(site))
	require.Equal(t, http.StatusNotFound, bob.StatusCode())

	// Text is not taken.
	address := strings.Replace(site.URL.String(), "http", "ws", 1) + path + good
	conn, _, err := websocket.Dial(harness.Context(t, harness.Patience), address,
		&websocket.DialOptions{HTTPHeader: http.Header{codersdk.SessionTokenHeader: {token}}})
	require.NoError(t, err)
	require.NoError(t, conn.Write(context.Background(), websocket.MessageText, []byte(`{"data":"x"}`)))
	for err == nil {
		_, _, err = conn.Read(harness.Context(t, harness.Patience))
	}
	require.Equal(t, websocket.StatusUnsupportedData, websocket.CloseStatus(err))
}

func TestSignedTokensOpenTerminals(t *testing.T) {
	t.Parallel()
	site, _ := readySite(t, "")
	id := site.Agent().ID
	sign := func(client *codersdk.Client, address string) (codersdk.IssueReconnectingPTYSignedTokenResponse, error) {
		return client.IssueReconnectingPTYSignedToken(harness.Context(t, harness.Patience),
			codersdk.IssueReconnectingPTYSignedTokenRequest{URL: address, AgentID: id})
	}
	address := strings.Replace(site.URL.String(), "http", "ws", 1) + fmt.Sprintf("/api/v2/workspaceagents/%s/pty", id)
	signed, err := sign(site.Client, address)
	require.NoError(t, err)
	for _, wrong := range []string{"", "http://" + address, "ws://elsewhere.example/api/v2/workspaceagents/" + id.String() + "/pty", address + "x"} {
		_, err = sign(site.Client, wrong)
		var refused *codersdk.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, http.StatusBadRequest, refused.StatusCode(), wrong)
	}
	site.AddUser("bob", false)
	_, err = sign(site.UserClient(site.CreateToken("bob")), address)
	require.Error(t, err)

	opts := ptyOf(site)
	opts.SignedToken = signed.SignedToken
	nobody := codersdk.New(site.Client.URL)
	openTerminal(t, nobody, opts).sum(4, 5)
	site.RevokeToken(site.Client.SessionToken())
	refused := refusal(t, nobody, opts)
	require.Equal(t, http.StatusNotFound, refused.StatusCode(), "it ends with the session")
}

func TestRevocationEndsTerminals(t *testing.T) {
	t.Parallel()
	site, agent := readySite(t, "")
	shell := openTerminal(t, site.UserClient(site.CreateToken(harness.Owner)), ptyOf(site))
	shell.typing("while true; do echo tick; sleep 0.1; done\r")
	shell.waitFor("tick\r\ntick")
	began := time.Now()
	site.SuspendUser(harness.Owner)
	err := shell.ended()
	require.Less(t, time.Since(began), cutWithin)
	require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
	require.NoError(t, agent.Alive())
}

func TestAShellOutlivesTheServer(t *testing.T) {
	t.Parallel()
	site, _ := readySite(t, "")
	opts := ptyOf(site)
	shell := openTerminal(t, site.Client, opts)
	shell.typing("before=yes\r")
	shell.sum(5, 5)
	site.Kill()
	require.Error(t, shell.ended())
	site.StartAgain()
	site.WaitStatus(codersdk.WorkspaceAgentConnected, harness.Patience)
	again := openTerminal(t, site.Client, opts)
	again.waitFor("sum=10")
	again.typing("echo before=$before.\r")
	again.waitFor("before=yes.")

	// Asked to stop, the server says that one should come back.
	site.Terminate()
	require.Equal(t, websocket.StatusServiceRestart, websocket.CloseStatus(again.ended()))
}

// A browser that does not read holds the shell back, not the server's memory.
func TestASlowBrowserHoldsTheShellBack(t *testing.T) {
	t.Parallel()
	site, agent := readySite(t, "")
	opts := ptyOf(site)
	address := strings.Replace(site.URL.String(), "http", "ws", 1) +
		fmt.Sprintf("/api/v2/workspaceagents/%s/pty?reconnect=%s&backend_type=buffered&command=%s", opts.AgentID, opts.Reconnect, "yes")
	conn, _, err := websocket.Dial(harness.Context(t, harness.Patience), address,
		&websocket.DialOptions{HTTPHeader: http.Header{codersdk.SessionTokenHeader: {site.Client.SessionToken()}}})
	require.NoError(t, err)
	defer conn.CloseNow()
	before := site.Memory()
	time.Sleep(5 * time.Second)
	require.Less(t, site.Memory()-before, int64(16<<20))

	// Others are not held up, and what comes then is whole.
	openTerminal(t, site.Client, ptyOf(site)).sum(6, 6)
	conn.SetReadLimit(-1)
	seen := 0
	for seen < 32<<20 {
		_, message, err := conn.Read(harness.Context(t, harness.Patience))
		require.NoError(t, err)
		require.Empty(t, strings.Trim(string(message), "y\r\n"))
		seen += len(message)
	}
	require.NoError(t, agent.Alive())
}

func TestManyTerminalsAtOnce(t *testing.T) {
	t.Parallel()
	site, _ := readySite(t, "")
	const many = 200
	terminals := make([]*terminal, many)
	for i := range terminals {
		opts := ptyOf(site)
		opts.Command = "cat"
		terminals[i] = openTerminal(t, site.Client, opts)
	}
	for round := range 2 {
		for i, shell := range terminals {
			shell.typing(fmt.Sprintf("terminal-%d-%d\r", i, round))
		}
		for i, shell := range terminals {
			shell.waitFor(fmt.Sprintf("terminal-%d-%d\r\nterminal-%d-%d", i, round, i, round))
		}
	}
	require.EqualValues(t, many, site.Metric("moorline_terminals"))
	require.EqualValues(t, many, site.Metric("moorline_peer_connections"))
	require.EqualValues(t, 1, site.Metric("moorline_peer_agents"))
	for _, shell := range terminals {
		shell.close()
	}
	harness.Eventually(t, harness.Patience, func() error {
		if open := site.Metric("moorline_terminals"); open != 0 {
			return fmt.Errorf("%v terminals are still open", open)
		}
		return nil
	})
}

// TestTerminalsAreInTheConnectionLog: who was there is the person, not the server.
func TestTerminalsAreInTheConnectionLog(t *testing.T) {
	t.Parallel()
	site, _ := readySite(t, "")
	shell := openTerminal(t, site.Client, ptyOf(site))
	shell.sum(7, 7)
	by := func(open bool) func(harness.Connection) bool {
		return func(c harness.Connection) bool {
			return c.By == "reconnecting-pty" && c.User == harness.Owner && c.IP == "127.0.0.1" && (c.EndedAt == nil) == open
		}
	}
	requireEntry(t, site, by(true))
	shell.close()
	requireEntry(t, site, by(false))
	require.Len(t, site.Connections(), 1)
}

// TestTheScreenIsRightAfterAReload is failure story 33: a program on the alternate screen, left and found again.
func TestTheScreenIsRightAfterAReload(t *testing.T) {
	t.Parallel()
	site, _ := readySite(t, "")
	opts := ptyOf(site)
	opts.BackendType = "screen"
	shell := openTerminal(t, site.Client, opts)
	shell.sum(8, 8)
	shell.typing("printf '\\033[?1049h\\033[2J\\033[5;7Hfull-%s-screen' alternate; read line; printf '\\033[?1049l'; echo left=$line.\r")
	shell.waitFor("full-alternate-screen")
	shell.close()

	again := openTerminal(t, site.Client, opts)
	screen := again.waitFor("full-alternate-screen")
	require.Contains(t, screen, "\x1b[5;7H", "it stands where it stood")
	require.NotContains(t, screen, "sum=16", "nothing of the other screen shows")
	again.send(workspacesdk.ReconnectingPTYRequest{Height: 40, Width: 120})
	again.typing("done\r")
	again.waitFor("left=done.")
}

// One person cannot take what all have.
func TestAPersonHasSoManyTerminals(t *testing.T) {
	t.Parallel()
	site, _ := readySite(t, "")
	// As many as WATCHERS_OF_ONE lets there be of one agent, which is what one person may have in all.
	const most = 256
	another := func() {
		opts := ptyOf(site)
		opts.Command = "cat"
		openTerminal(t, site.Client, opts)
	}
	for range most {
		another()
	}
	// On a busy machine one may have ended meanwhile, and its place is free again.
	harness.Eventually(t, harness.Patience, func() error {
		if open := site.Metric("moorline_terminals"); open < most {
			another()
			return fmt.Errorf("%v terminals are open", open)
		}
		return nil
	})
	refused := refusal(t, site.Client, ptyOf(site))
	require.Equal(t, http.StatusTooManyRequests, refused.StatusCode())
	require.Contains(t, refused.Message, "256 terminals")
}
