package lightning

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/uplink/phoenix"
	"github.com/millrace/millrace/ipc"
)

// fetchDataclip has a dataclip stream from the socket into a segment: this
// process never holds more of it than a buffer, and decodes none of it. It tries
// again when the connection breaks meanwhile.
func fetchDataclip(ctx context.Context, c channel, id string, o phoenix.PushOptions, store document.Store) (ipc.Table, error) {
	for {
		var in *importing
		o.Resend = false // a new attempt is a new document
		o.Into = func(int64) (io.WriteCloser, error) {
			if in != nil {
				in.abandon(store)
			}
			in = startImport(store)
			return in, nil
		}
		reply, err := c.Push(ctx, eventFetchDataclip, phoenix.JSON(byID{id}), o)
		switch {
		case err == nil && in != nil:
			return in.finish()
		case err == nil:
			return store.Read(bytes.NewReader(reply.Response))
		}
		if in != nil {
			if cause := in.abandon(store); cause != nil {
				err = cause // what could not be stored is why the rest was refused
			}
		}
		if !errors.Is(err, phoenix.ErrDisconnected) || ctx.Err() != nil {
			return ipc.Table{}, err
		}
	}
}

// importing is a document on its way from a socket into shared memory.
type importing struct {
	*io.PipeWriter
	done  chan struct{}
	table ipc.Table
	err   error
}

func startImport(store document.Store) *importing {
	r, w := io.Pipe()
	in := &importing{PipeWriter: w, done: make(chan struct{})}
	go func() {
		defer close(in.done)
		in.table, in.err = store.Read(r)
		if in.err != nil {
			r.CloseWithError(in.err)
			return
		}
		r.CloseWithError(errors.New("the document has ended"))
	}()
	return in
}

// finish ends the document and returns its table.
func (in *importing) finish() (ipc.Table, error) {
	in.Close()
	<-in.done
	return in.table, in.err
}

// errAbandoned is what a reader of an abandoned document sees.
var errAbandoned = errors.New("the dataclip did not arrive whole")

// abandon gives the document up. It returns why it could not be stored, if that
// was so.
func (in *importing) abandon(store document.Store) error {
	in.CloseWithError(errAbandoned)
	<-in.done
	switch {
	case in.err == nil:
		store.Account.Release(in.table)
	case !errors.Is(in.err, errAbandoned):
		return fmt.Errorf("it could not be stored: %w", in.err)
	}
	return nil
}
