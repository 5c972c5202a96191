// Package procstat reads what a process has used so far from /proc.
package procstat

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is what Linux uses on every architecture that Go runs on.
const ticksPerSecond = 100

// CPUSeconds is the user and system time of all threads of a process.
func CPUSeconds(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in brackets, which may hold anything.
	_, rest, found := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has an unknown form", pid)
	}
	var ticks float64
	for _, field := range fields[11:13] {
		number, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, err
		}
		ticks += number
	}
	return ticks / ticksPerSecond, nil
}

// PSSBytes is the process's proportional share of resident memory.
func PSSBytes(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			fields := strings.Fields(rest)
			if len(fields) == 0 {
				break
			}
			kib, err := strconv.ParseInt(fields[0], 10, 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/smaps_rollup has no Pss line", pid)
}
