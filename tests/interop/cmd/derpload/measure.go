package main

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"time"

	"moorline.test/interop/internal/procstat"
	"moorline.test/interop/internal/stat"
)

const gib = 1 << 30

// stalledAfter is how long a full window may stay full before its packets count as lost.
const stalledAfter = time.Second

// throughput keeps a window of packets in flight on every pair. The receiver hands places back by memory, so
// the way back costs the relay nothing.
func throughput(ctx context.Context, opts options, result *Result) error {
	type lane struct{ from, to end }
	lanes := make([]lane, opts.pairs)
	if err := together(opts.pairs, func(index int) (err error) {
		lanes[index].from, lanes[index].to, err = pair(ctx, opts)
		return err
	}); err != nil {
		return err
	}
	// What the pairs tried out is read over.
	time.Sleep(200 * time.Millisecond)

	var received, lost atomic.Int64
	var measuring, stopped atomic.Bool
	go func() {
		time.Sleep(500 * time.Millisecond)
		measuring.Store(true)
	}()
	done := make(chan error, opts.pairs)
	for _, lane := range lanes {
		places := make(chan struct{}, opts.window)
		go func() {
			var next uint64
			for !stopped.Load() {
				err := nextPacket(lane.to, func(data []byte) {
					number := binary.BigEndian.Uint64(data)
					if number == 0 {
						return // tried out before the measurement
					}
					if next != 0 && number > next {
						lost.Add(int64(number - next))
						for range number - next {
							<-places
						}
					}
					next = number + 1
					if measuring.Load() {
						received.Add(1)
					}
					<-places
				})
				if err != nil {
					return
				}
			}
		}()
		go func() {
			packet := make([]byte, opts.size)
			var number uint64
			for !stopped.Load() {
				select {
				case places <- struct{}{}:
				case <-time.After(stalledAfter):
					// The whole window was lost: begin anew.
					for len(places) > 0 {
						<-places
						lost.Add(1)
					}
					continue
				}
				number++
				binary.BigEndian.PutUint64(packet, number)
				if err := lane.from.Send(lane.to.public, packet); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}

	for !measuring.Load() {
		time.Sleep(time.Millisecond)
	}
	received.Store(0)
	lost.Store(0)
	began, cpu := time.Now(), cpuSeconds(opts.pid)
	time.Sleep(opts.duration)
	packets, took, spent := received.Load(), time.Since(began), cpuSeconds(opts.pid)-cpu
	result.Lost = lost.Load()
	stopped.Store(true)
	for range opts.pairs {
		if err := <-done; err != nil {
			return err
		}
	}
	bytes := float64(packets) * float64(opts.size)
	result.Packets, result.Seconds = packets, took.Seconds()
	result.PerSecond = float64(packets) / took.Seconds()
	result.MiBPerS = bytes / (1 << 20) / took.Seconds()
	if opts.pid != 0 {
		result.CPUSeconds, result.CPUPerGiB = spent, spent/bytes*gib
	}
	return nil
}

// roundTrip sends a packet to and fro on one pair, one at a time.
func roundTrip(ctx context.Context, opts options, result *Result) error {
	from, to, err := pair(ctx, opts)
	if err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond)
	go func() {
		back := make([]byte, opts.size)
		for {
			err := nextPacket(to, func(data []byte) { copy(back, data) })
			if err != nil || to.Send(from.public, back) != nil {
				return
			}
		}
	}()
	packet := make([]byte, opts.size)
	var times stat.Samples
	var number uint64
	began := time.Now()
	for time.Since(began) < opts.duration {
		number++
		binary.BigEndian.PutUint64(packet, number)
		sent := time.Now()
		if err := from.Send(to.public, packet); err != nil {
			return err
		}
		for {
			var got uint64
			if err := nextPacket(from, func(data []byte) { got = binary.BigEndian.Uint64(data) }); err != nil {
				return err
			}
			// Older ones are echoes of what the pair tried out.
			if got == number {
				break
			}
		}
		times.Add(time.Since(sent))
	}
	summary := times.Summary()
	result.Seconds, result.Packets = time.Since(began).Seconds(), int64(summary.Count)
	result.P50Millis, result.P99Millis = summary.P50, summary.P99
	return nil
}

// cpuSeconds is 0 for no process.
func cpuSeconds(pid int) float64 {
	if pid == 0 {
		return 0
	}
	seconds, err := procstat.CPUSeconds(pid)
	if err != nil {
		return 0
	}
	return seconds
}
