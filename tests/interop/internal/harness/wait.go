package harness

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// Patience is how long a test waits for something that normally takes well
// under a second. It is long because the machines that run this are shared.
const Patience = 30 * time.Second

// pollEvery is the pause between two looks at a condition. Real servers of this
// API allow 512 requests per minute and path, so it is not shorter.
const pollEvery = 150 * time.Millisecond

// Eventually calls check until it returns nil and fails the test with its last
// complaint when that takes longer than within.
func Eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %v", within, err)
		case <-tick.C:
		}
	}
}

// Throughout calls check until the time is over and fails the test at its first
// complaint: the way to assert that something does not happen.
func Throughout(t testing.TB, during time.Duration, check func() error) {
	t.Helper()
	deadline := time.NewTimer(during)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err := check(); err != nil {
			t.Fatalf("within %v: %v", during, err)
		}
		select {
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

// Context ends with the test, or after the given time if that is sooner.
func Context(t testing.TB, within time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}

// WaitFile waits until a script has written something into the file.
func WaitFile(t testing.TB, path string) string {
	t.Helper()
	var content []byte
	Eventually(t, Patience, func() error {
		var err error
		content, err = os.ReadFile(path)
		if err == nil && len(content) == 0 {
			err = fmt.Errorf("%s is still empty", path)
		}
		return err
	})
	return string(content)
}
