//go:build tools

// Package interop keeps the command that build.sh compiles in go.mod.
package interop

import _ "github.com/coder/coder/v2/cmd/coder"
