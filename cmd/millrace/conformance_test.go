package main

import "testing"

func TestConformanceExitCodes(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want int
	}{
		{"list", []string{"--list"}, exitOK},
		{"no program", nil, exitUsage},
		{"unknown kind", []string{"--kind", "fortran", "--", "true"}, exitUsage},
		{"bad expression", []string{"--case", "(", "--", "true"}, exitUsage},
		{"no such case", []string{"--case", "^nothing$", "--", "true"}, exitUsage},
		{"no time", []string{"--timeout", "0s", "--", "true"}, exitUsage},
		{"no executor", []string{"--case", "handshake/hello", "--", "true"}, exitFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := execute(append([]string{"conformance"}, c.args...)); got != c.want {
				t.Errorf("exit code %d, want %d", got, c.want)
			}
		})
	}
}
