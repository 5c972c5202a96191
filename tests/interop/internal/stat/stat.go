// Package stat keeps durations and says what was typical and what was bad.
package stat

import (
	"slices"
	"sync"
	"time"
)

// Samples collects durations; many goroutines may add at once.
type Samples struct {
	mu   sync.Mutex
	took []time.Duration
}

// Add records one duration.
func (s *Samples) Add(took time.Duration) {
	s.mu.Lock()
	s.took = append(s.took, took)
	s.mu.Unlock()
}

// Summary is the JSON form: milliseconds.
type Summary struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// Summary sorts what was collected so far.
func (s *Samples) Summary() Summary {
	s.mu.Lock()
	sorted := slices.Clone(s.took)
	s.mu.Unlock()
	if len(sorted) == 0 {
		return Summary{}
	}
	slices.Sort(sorted)
	at := func(percent int) float64 {
		return Millis(sorted[min(len(sorted)-1, len(sorted)*percent/100)])
	}
	return Summary{Count: len(sorted), P50: at(50), P99: at(99), Max: Millis(sorted[len(sorted)-1])}
}

// Millis is a duration in milliseconds, with fractions.
func Millis(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
