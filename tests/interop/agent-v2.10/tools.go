//go:build tools

// Package agentv210 keeps the command that build.sh compiles in go.mod.
package agentv210

import _ "github.com/coder/coder/v2/cmd/coder"
