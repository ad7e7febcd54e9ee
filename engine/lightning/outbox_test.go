package lightning

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type recorder struct {
	mu  sync.Mutex
	got []string
}

func (r *recorder) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, s)
}

func (r *recorder) logs(_ context.Context, lines []logLine) {
	var texts []string
	for _, l := range lines {
		texts = append(texts, string(l.Message))
	}
	r.add(strings.Join(texts, "+"))
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.got, " ")
}

func text(i int) logLine { return logLine{Message: json.RawMessage(fmt.Sprint(i))} }

func TestOutboxOrderAndBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		o := newOutbox(outboxBatch{on: true, interval: 10 * time.Millisecond, limit: 3}, r.logs)
		done := make(chan struct{})
		go func() { defer close(done); o.run(t.Context()) }()
		for i := range 7 { // two full batches and a rest that an event ends
			o.log(text(i))
		}
		o.event(func(context.Context) { r.add("event") })
		synctest.Wait()
		if want := "0+1+2 3+4+5 6 event"; r.String() != want {
			t.Errorf("got %s, want %s", &r, want)
		}
		o.log(text(7))
		time.Sleep(5 * time.Millisecond)
		o.log(text(8))
		time.Sleep(4 * time.Millisecond)
		if got := r.String(); got != "0+1+2 3+4+5 6 event" {
			t.Errorf("a batch went before its time: %s", got)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		o.log(text(9))
		o.close()
		<-done
		if want := "0+1+2 3+4+5 6 event 7+8 9"; r.String() != want {
			t.Errorf("got %s, want %s", &r, want)
		}
	})
}

func TestOutboxOneByOne(t *testing.T) {
	var r recorder
	o := newOutbox(outboxBatch{limit: 50}, r.logs)
	o.log(text(1))
	o.log(text(2))
	o.event(func(context.Context) { r.add("event") })
	o.log(text(3))
	o.close()
	o.run(t.Context())
	if r.String() != "1 2 event 3" {
		t.Error(&r)
	}
}

func TestOutboxHoldsItsStepUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		sent := 0
		o := newOutbox(outboxBatch{}, func(context.Context, []logLine) { <-release; sent++ })
		done := make(chan struct{})
		go func() { defer close(done); o.run(t.Context()) }()
		large := logLine{Message: make(json.RawMessage, 1<<20)}
		in := 0
		go func() {
			for range 10 {
				o.log(large)
				in++
			}
			o.close()
		}()
		synctest.Wait()
		if in < 4 || in > 6 {
			t.Errorf("%d lines of 1 MB went in while none went out", in)
		}
		o.noWaiting()
		synctest.Wait()
		if in != 10 || o.lost() == 0 {
			t.Errorf("the step still waits: %d lines in, %d dropped", in, o.lost())
		}
		close(release)
		<-done
		if sent+o.lost() != 10 {
			t.Errorf("%d sent and %d dropped of 10", sent, o.lost())
		}
	})
}

func TestOutboxBatchBytes(t *testing.T) {
	var r recorder
	o := newOutbox(outboxBatch{on: true, interval: time.Hour, limit: 50}, func(_ context.Context, lines []logLine) { r.add(fmt.Sprint(len(lines))) })
	o.bound(10_000)
	for range 5 {
		o.log(logLine{Message: make(json.RawMessage, 4000)})
	}
	o.event(func(context.Context) {})
	o.close()
	o.run(t.Context())
	if r.String() != "2 2 1" {
		t.Error(&r)
	}
}
