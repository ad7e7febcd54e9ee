package lightning

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/engine/plan"
)

// credentials fetches each credential of a run once. What was fetched is told to
// the run's scrubber before anybody gets it.
type credentials struct {
	fetch func(id string) (json.RawMessage, error)
	scrub *scrubber

	mu    sync.Mutex
	known map[string]func() (json.RawMessage, error)
}

// get returns the credential, fetched now if it was not.
func (c *credentials) get(id string) (json.RawMessage, error) {
	c.mu.Lock()
	if c.known == nil {
		c.known = make(map[string]func() (json.RawMessage, error))
	}
	get := c.known[id]
	if get == nil {
		get = sync.OnceValues(func() (json.RawMessage, error) { return c.load(id) })
		c.known[id] = get
	}
	c.mu.Unlock()
	return get()
}

func (c *credentials) load(id string) (json.RawMessage, error) {
	text, err := c.fetch(id)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 || string(text) == "null" {
		return json.RawMessage("{}"), nil
	}
	if text[0] != '{' || !json.Valid(text) {
		return nil, errors.New("the server's answer is not an object")
	}
	c.scrub.addCredential(text)
	return text, nil
}

// atOnce is how many credentials of a run are fetched at the same time.
const atOnce = 8

// prefetch fetches all that the plan's steps name. An error is kept for the step
// that needs the credential: another branch may never come to it.
func (c *credentials) prefetch(ctx context.Context, p *plan.Plan) {
	var all errgroup.Group
	all.SetLimit(atOnce)
	for _, s := range p.Steps {
		if s.Credential != "" && ctx.Err() == nil {
			all.Go(func() error {
				_, _ = c.get(s.Credential) // kept
				return nil
			})
		}
	}
	_ = all.Wait() // none of them returns an error
}
