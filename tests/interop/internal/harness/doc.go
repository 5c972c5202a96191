// Package harness runs the moorline binary and the real agent for the tests of
// this module: each test gets its own server, its own file and its own home
// directories, on ports that the kernel picks.
//
// Linux only, like the agents it runs.
package harness
