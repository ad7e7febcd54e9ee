package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
)

// peers are what is compared, and where its parts are.
type peers struct {
	folder, runtime, worker string
}

// figures of one run. Times are in nanoseconds, sizes in bytes.
type figures struct {
	Stamps    [][2]float64 `json:"stamps"` // begin and end of each step's code
	Begin     float64      `json:"begin"`  // before the state's file was read
	Submitted float64      `json:"submitted"`
	End       float64      `json:"end"` // the final document is in its socket's form
	Bytes     int64        `json:"bytes"`
	// Peak is all processes' memory, Supervisor what millrace's own process
	// grew by.
	Peak       int64 `json:"-"`
	Supervisor int64 `json:"-"`
	// waits and walls are those of all rounds, where there were several.
	waits, walls []float64
}

func (f *figures) wall() float64 { return f.End - f.Begin }

// medians returns the median hand-over and wall time of all rounds.
func (f *figures) medians() (wait, wall float64) {
	if len(f.walls) == 0 {
		return median(f.handovers()), f.wall()
	}
	return median(f.waits), median(f.walls)
}

// handovers are the times from the end of a step's code to the next one's
// begin.
func (f *figures) handovers() []float64 {
	var all []float64
	for i := 1; i < len(f.Stamps); i++ {
		all = append(all, f.Stamps[i][0]-f.Stamps[i-1][1])
	}
	return all
}

// baseline runs a task on one of the Node.js peers.
func (p *peers) baseline(program string, t task) (*figures, error) {
	cmd := exec.Command("node", "--no-warnings", "--experimental-vm-modules", "--max-old-space-size=8192",
		p.folder+"/"+program, p.runtime, t.plan, t.state)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := watch(func() []int { return tree(cmd.Process.Pid) })
	err := cmd.Wait()
	peak := s.end()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, errs.Bytes())
	}
	f := &figures{}
	if err := json.Unmarshal(out.Bytes(), f); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	f.Peak = peak
	return f, nil
}
