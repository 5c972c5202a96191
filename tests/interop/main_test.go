// Package interop runs the unmodified agent, in two releases, and its client
// packages against a moorline server. See README.md for how to run it.
package interop

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"moorline.test/interop/internal/harness"
)

// parallel is how many tests run at once unless -test.parallel says otherwise.
// Most of a test's time is spent waiting for an agent's own timers, so this is
// more than the number of cores.
const parallel = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", parallel); err != nil {
			panic(err)
		}
	}
	// -test.list must work without a server.
	if list := flag.Lookup("test.list"); list == nil || list.Value.String() == "" {
		if err := harness.CheckSetup(); err != nil {
			fmt.Fprintln(os.Stderr, "interop:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	harness.StopShared()
	os.Exit(code)
}
