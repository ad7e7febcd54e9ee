package main

import (
	"context"
	"time"

	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/measure"
)

// pair is a drain and a sender to it.
type pair struct {
	drain, sender *child.Process
	at            drained
	size          int64 // of what the sender holds
}

func (b *suite) pair(spec senderSpec) (*pair, error) {
	p := &pair{}
	var err error
	if p.drain, err = child.Start(drainRole, b.dir); err != nil {
		return nil, err
	}
	ctx := context.Background()
	err = p.drain.Call(ctx, "addresses", nil, &p.at)
	if err == nil {
		p.sender, err = child.Start(senderRole, spec)
	}
	if err == nil {
		err = p.sender.Call(ctx, "ready", nil, &p.size)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// close ends both. What they say at their end is of no interest.
func (p *pair) close() {
	if p.sender != nil {
		_ = p.sender.Close()
	}
	_ = p.drain.Close()
}

func (p *pair) call(op string, arg any) error {
	return p.sender.Call(context.Background(), op, arg, nil)
}

// cost has the sender do something once: wall and CPU time in ns.
func (p *pair) cost(op string) (wall, cpu float64, err error) {
	pids := []int{p.sender.PID()}
	before, err := measure.CPU(pids)
	if err != nil {
		return 0, 0, err
	}
	var took int64
	if err := p.sender.Call(context.Background(), op, nil, &took); err != nil {
		return 0, 0, err
	}
	after, err := measure.CPU(pids)
	return float64(took), float64(after - before), err
}

// costs are the samples of several rounds.
type costs struct{ wall, cpu []float64 }

func (c *costs) take(p *pair, op string) error {
	wall, cpu, err := p.cost(op)
	c.wall, c.cpu = append(c.wall, wall), append(c.cpu, cpu)
	return err
}

// upload measures a dataclip's upload against a bare loop that escapes, masks
// and writes the same bytes, and against decoding and encoding it.
func (b *suite) upload() error {
	size := int64(b.pick(100e6, 20e6))
	for _, deflate := range []bool{false, true} {
		if err := b.uploadTimes(size, deflate); err != nil {
			return err
		}
		if err := b.uploadMemory(size, deflate); err != nil {
			return err
		}
	}
	return nil
}

func uploadSection(size int64, deflate bool) string {
	name := "Upload of a dataclip, " + show(float64(size), inBytes)
	if deflate {
		name += ", deflated"
	}
	return name
}

func (b *suite) uploadTimes(size int64, deflate bool) error {
	p, err := b.pair(senderSpec{Bytes: size})
	if err != nil {
		return err
	}
	defer p.close()
	to, path := connectSpec{URL: p.at.Plain}, "/plain"
	if deflate {
		to, path = connectSpec{URL: p.at.Deflate, Compress: true}, "/deflate"
	}
	if err := p.call("bare", bareSpec{Host: p.at.Host, Path: path, Deflate: deflate}); err != nil {
		return err
	}
	var loop, fragmented, whole, recode costs
	for round := range b.pick(9, 3) + 1 {
		if round == 1 {
			loop, fragmented, whole = costs{}, costs{}, costs{} // the first warms up
		}
		if err := loop.take(p, "escape"); err != nil {
			return err
		}
		for _, c := range []struct {
			costs *costs
			whole bool
		}{{&fragmented, false}, {&whole, true}} {
			to.Whole = c.whole
			if err := p.call("connect", to); err != nil {
				return err
			}
			if err := c.costs.take(p, "push"); err != nil {
				return err
			}
		}
	}
	for range b.pick(3, 1) {
		if err := recode.take(p, "recode"); err != nil {
			return err
		}
	}
	section := uploadSection(size, deflate)
	b.report.add(section, "wall, against a bare loop", inTime, fragmented.wall).against(fragmented.wall, loop.wall).atMost(1.5)
	b.report.add(section, "CPU, against a bare loop", inTime, fragmented.cpu).against(fragmented.cpu, loop.cpu).atMost(1.5)
	b.report.add(section, "CPU, against encoding/json", inTime, fragmented.cpu).against(fragmented.cpu, recode.cpu).atMost(0.2)
	if !deflate { // a deflated message is always made of fragments
		b.report.add(section, "wall in one frame, against fragments", inTime, whole.wall).against(whole.wall, fragmented.wall)
		b.report.add(section, "CPU in one frame, against fragments", inTime, whole.cpu).against(whole.cpu, fragmented.cpu)
	}
	return nil
}

// uploadMemory measures, in processes of their own, by how much the host grows.
func (b *suite) uploadMemory(size int64, deflate bool) error {
	grown := func(connect func(*pair) error, op string) (float64, error) {
		p, err := b.pair(senderSpec{Bytes: size})
		if err != nil {
			return 0, err
		}
		defer p.close()
		if err := connect(p); err != nil {
			return 0, err
		}
		if err := p.call("ready", nil); err != nil {
			return 0, err
		}
		pids := []int{p.sender.PID()}
		before, err := measure.MemoryOf(pids)
		if err != nil {
			return 0, err
		}
		s := measure.Sample(func() []int { return pids }, 5*time.Millisecond)
		err = p.call(op, nil)
		peak, _, serr := s.Stop()
		if err == nil {
			err = serr
		}
		return float64(peak.Total() - before.Total()), err
	}
	var ours, base []float64
	for round := range b.pick(3, 1) {
		n, err := grown(func(p *pair) error {
			to := connectSpec{URL: p.at.Plain}
			if deflate {
				to = connectSpec{URL: p.at.Deflate, Compress: true}
			}
			return p.call("connect", to)
		}, "push")
		if err != nil {
			return err
		}
		ours = append(ours, n)
		if deflate || round > 0 {
			continue
		}
		n, err = grown(func(p *pair) error {
			return p.call("bare", bareSpec{Host: p.at.Host, Path: "/plain"})
		}, "recode")
		if err != nil {
			return err
		}
		base = append(base, n)
	}
	row := b.report.add(uploadSection(size, deflate), "host memory above idle", inBytes, ours)
	row.target("≤ 4 MB", row.Value.P90 <= 4e6)
	if base != nil {
		row.Name += ", against encoding/json"
		row.against(ours, base)
	}
	return nil
}

// raw measures the raw socket uplink against bare system calls on the same
// memory and the same kind of socket.
func (b *suite) raw() error {
	size := int64(b.pick(128<<20, 32<<20))
	p, err := b.pair(senderSpec{Bytes: size, Raw: true})
	if err != nil {
		return err
	}
	defer p.close()
	for _, at := range []dialSpec{{"unix", p.at.Unix}, {"tcp", p.at.TCP}} {
		if err := p.call("dial", at); err != nil {
			return err
		}
		var frame, sendfile, write costs
		for round := range b.pick(15, 7) + 1 {
			if round == 1 {
				frame, sendfile, write = costs{}, costs{}, costs{}
			}
			for _, c := range []struct {
				costs *costs
				op    string
			}{{&frame, "frame"}, {&sendfile, "sendfile"}, {&write, "write"}} {
				if err := c.costs.take(p, c.op); err != nil {
					return err
				}
			}
		}
		section := "Raw socket uplink, " + show(float64(size), inBytes) + ", " + at.Network
		b.report.add(section, "wall, against sendfile", inTime, frame.wall).against(frame.wall, sendfile.wall).atMost(1 / 0.9)
		b.report.add(section, "CPU, against sendfile", inTime, frame.cpu).against(frame.cpu, sendfile.cpu)
		b.report.add(section, "wall, against write from a mapping", inTime, frame.wall).against(frame.wall, write.wall).atMost(1 / 0.9)
		b.report.add(section, "CPU, against write from a mapping", inTime, frame.cpu).against(frame.cpu, write.cpu)
	}
	return nil
}
