package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
)

// lookPath finds the program, in the PATH that the command will have; a name
// with a slash is taken from the command's directory.
func (e *execution) lookPath() (string, error) {
	dir := e.spec.Cwd
	if dir != "" {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return "", e.crash(fmt.Sprintf("the working directory %q of %s is not a directory that can be entered", dir, e.name()), err)
		}
	}
	name := e.spec.Argv[0]
	if strings.ContainsRune(name, '/') {
		path := under(dir, name)
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return "", e.crash(fmt.Sprintf("command %q was not found: there is no file %s", name, path), err)
		case info.IsDir():
			return "", e.crash(fmt.Sprintf("command %q is a directory", name), nil)
		case !isExecutable(path):
			return "", e.crash(fmt.Sprintf("command %q is not executable: use chmod +x %s", name, path), nil)
		}
		return path, nil
	}
	search, ok := e.spec.Env["PATH"]
	if !ok {
		search = os.Getenv("PATH")
	}
	unfit := ""
	for _, entry := range filepath.SplitList(search) {
		path := filepath.Join(under(dir, entry), name)
		info, err := os.Stat(path)
		switch {
		case err != nil || info.IsDir():
		case isExecutable(path):
			return path, nil
		case unfit == "":
			unfit = path
		}
	}
	if unfit != "" {
		return "", e.crash(fmt.Sprintf("command %q is not executable: use chmod +x %s", name, unfit), nil)
	}
	return "", e.crash(fmt.Sprintf("command %q was not found in PATH (%s): install it, or give its path", name, search), nil)
}

// under returns path as seen from dir.
func under(dir, path string) string {
	if dir == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// crash is an error that no retry mends.
func (e *execution) crash(message string, err error) error {
	if err != nil {
		message += ": " + err.Error()
	}
	return &worker.Error{
		Name: "CommandError", Severity: ipc.SeverityCrash, Message: message, Err: err,
		Details: map[string]any{"argv0": e.spec.Argv[0]},
	}
}
