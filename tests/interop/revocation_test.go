package interop

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coder/coder/v2/codersdk"
	"github.com/coder/coder/v2/codersdk/workspacesdk"

	"moorline.test/interop/internal/harness"
)

// cutWithin is how long what was opened with a token may outlive the token.
const cutWithin = 2 * time.Second

// TestRevocationCutsLiveTunnels is failure story 15: a token revoked and a user
// suspended in the middle of a session, over each kind of path.
func TestRevocationCutsLiveTunnels(t *testing.T) {
	t.Parallel()
	ways := map[string]func(*harness.Site, *harness.Person){
		"revoked by the operator": func(site *harness.Site, alice *harness.Person) {
			site.RevokeToken(alice.Token)
		},
		"logged out elsewhere": func(site *harness.Site, alice *harness.Person) {
			_ = site.UserClient(alice.Token).Logout(context.Background())
		},
		"suspended": func(site *harness.Site, _ *harness.Person) {
			site.SuspendUser(harness.Owner)
		},
	}
	for way, revoke := range ways {
		for _, network := range []harness.Network{harness.Direct, harness.RelayOnly} {
			t.Run(way+"/"+network.Name, func(t *testing.T) {
				t.Parallel()
				site := harness.NewSiteOn(t, network, "")
				agent, alice := connected(t, site)
				shell := alice.Terminal("ssh", "dev")
				shell.Echo("up", harness.Patience)
				shell.Type("while true; do echo tick; sleep 0.1; done\n")
				shell.WaitFor("tick\r\ntick", quickEcho)

				revoke(site, alice)
				revoked := time.Now()
				harness.Eventually(t, harness.Patience, func() error {
					if silent := time.Since(shell.Newest()); silent < 3*time.Second && shell.Running() {
						return fmt.Errorf("the session printed something %v ago", silent)
					}
					return nil
				})
				lived := shell.Newest().Sub(revoked)
				t.Logf("the tunnel lived on for %v", lived)
				require.Less(t, lived, cutWithin)

				// New dials are refused at once, and nobody else noticed anything.
				out := alice.Coder("ssh", "dev", "--", "true")
				require.Equal(t, 1, out.Code)
				require.NoError(t, agent.Alive())
				require.Equal(t, 1, agent.Count(harness.LogDialing))
			})
		}
	}
}

// TestOneTokenRevokedLeavesTheOthersAlone: two sessions of the same person.
func TestOneTokenRevokedLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	laptop := site.SignedIn(harness.Owner)
	kept := laptop.Terminal("ssh", "dev")
	kept.Echo("up", harness.Patience)
	site.RevokeToken(alice.Token)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		kept.Echo(fmt.Sprintf("still%d", time.Now().UnixMilli()), quickEcho)
		time.Sleep(200 * time.Millisecond)
	}
	requireToken(t, site, laptop.Token, true)
}

// TestRevocationEndsEverythingThatWasOpen looks at the streams themselves.
func TestRevocationEndsEverythingThatWasOpen(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	connected(t, site)
	token := site.CreateToken(harness.Owner)
	client := site.UserClient(token)
	ctx := harness.Context(t, time.Minute)

	workspaces, err := client.WatchWorkspace(ctx, site.WorkspaceID)
	require.NoError(t, err)
	metadata, metadataErrors := client.WatchWorkspaceAgentMetadata(ctx, site.AgentID)
	lines, closer, err := client.WorkspaceAgentLogsAfter(ctx, site.AgentID, 0, true)
	require.NoError(t, err)
	defer closer.Close()
	conn, err := workspacesdk.New(client).DialAgent(ctx, site.AgentID, nil)
	require.NoError(t, err)
	defer conn.Close()
	require.True(t, conn.AwaitReachable(ctx))
	_, err = client.Workspace(ctx, site.WorkspaceID)
	require.NoError(t, err)

	site.RevokeToken(token)
	deadline := harness.Context(t, cutWithin).Done()
	ended := func(name string, more func() bool) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for more() {
			}
		}()
		select {
		case <-done:
		case <-deadline:
			t.Errorf("%s is still open", name)
		}
	}
	ended("the workspace watch", func() bool { _, ok := <-workspaces; return ok })
	ended("the log stream", func() bool { _, ok := <-lines; return ok })
	ended("the metadata watch", func() bool {
		select {
		case _, ok := <-metadata:
			return ok
		case <-metadataErrors:
			return false
		}
	})
	_, err = client.Workspace(ctx, site.WorkspaceID)
	require.Equal(t, http.StatusUnauthorized, harness.Status(err))
	_, err = workspacesdk.New(client).DialAgent(ctx, site.AgentID, nil)
	require.Equal(t, http.StatusUnauthorized, harness.Status(err), "%v", err)
}

// TestASuspendedPersonComesBackWithNewTokensOnly: what was taken stays taken.
func TestASuspendedPersonComesBackWithNewTokensOnly(t *testing.T) {
	t.Parallel()
	site := harness.NewSite(t, "")
	_, alice := connected(t, site)
	site.SuspendUser(harness.Owner)
	requireToken(t, site, alice.Token, false)
	_, err := site.UserClient("").LoginWithPassword(harness.Context(t, harness.Patience), codersdk.LoginWithPasswordRequest{
		Email: "alice@example.test", Password: "correct horse battery staple",
	})
	require.Error(t, err)
	site.ActivateUser(harness.Owner)
	again := site.SignedIn(harness.Owner)
	require.Contains(t, again.Must("ssh", "dev", "--", "echo", "back"), "back")
}
