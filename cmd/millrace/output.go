package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// outputFile is where a result goes: a file that appears whole or not at all,
// or a stream.
type outputFile struct {
	path string   // "" for a stream
	file *os.File // what is written to
}

// createOutput opens the output before anything runs, so that a run is not
// spent on a result that has nowhere to go. path is "-" for standard output.
func createOutput(path string) (*outputFile, error) {
	if path == "-" {
		return &outputFile{file: os.Stdout}, nil
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("cannot write %s: it is a directory", path)
	case err == nil && !info.Mode().IsRegular(): // a pipe or device: nothing to rename
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot write the output: %w", err)
		}
		return &outputFile{file: f}, nil
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // replace what a link leads to, not the link
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.partial")
	if err != nil {
		return nil, fmt.Errorf("cannot write the output: %w", err)
	}
	if err := f.Chmod(0o644); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &outputFile{path: path, file: f}, nil
}

// write has the content written, and makes it the output if that went well.
func (o *outputFile) write(content func(io.Writer) error) error {
	err := content(o.file)
	if o.path == "" {
		if o.file != os.Stdout {
			err = errors.Join(err, o.file.Close())
		}
		return err
	}
	if err == nil {
		err = o.file.Sync()
	}
	if err != nil {
		o.discard()
		return fmt.Errorf("cannot write %s: %w (nothing was left behind)", o.path, err)
	}
	if err := o.file.Close(); err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", o.path, err), os.Remove(o.file.Name()))
	}
	return os.Rename(o.file.Name(), o.path)
}

// discard takes an unfinished file away. It is safe after write.
func (o *outputFile) discard() {
	if o == nil || o.path == "" {
		return
	}
	// What cannot be closed or removed is not in the way of the real error.
	_ = o.file.Close()
	_ = os.Remove(o.file.Name())
}

// writeFile writes a whole small file the same way.
func writeFile(path string, content func(io.Writer) error) error {
	o, err := createOutput(path)
	if err != nil {
		return err
	}
	return o.write(func(w io.Writer) error {
		buffered := bufio.NewWriter(w)
		if err := content(buffered); err != nil {
			return err
		}
		return buffered.Flush()
	})
}
