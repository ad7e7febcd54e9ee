package differential

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

// adaptors that jobs are run with for real. The versions are those that the
// expectations were seen with.
var adaptors = []string{"@openfn/language-common@3.3.4", "@openfn/language-http@7.2.10"}

// adaptorRepo installs the adaptors with the tool that users have, once for
// all runs of the test on this machine.
func adaptorRepo(t *testing.T) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	repo := filepath.Join(base, "millrace-test-adaptors")
	args := append([]string{filepath.Join(workerFolder, "bin", "millrace-adaptors.js"), "install"}, adaptors...)
	cmd := exec.Command("node", append(args, "--repo-dir", repo)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("installing adaptors: %v\n%s", err, out)
	}
	return repo
}

// patients serves what the http adaptor's jobs ask for.
func patients(t *testing.T) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Del("Date")
		w.Header()["Date"] = nil // so that two answers are equal
		switch {
		case r.URL.Path == "/patients" && r.Method == http.MethodGet:
			if user, password, _ := r.BasicAuth(); user != "nurse" || password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
				fmt.Fprint(w, `{"error": "who are you?"}`)
				return
			}
			fmt.Fprintf(w, `{"page": %q, "items": [{"id": 1, "name": "Ada"}, {"id": 2, "name": "José"}]}`, r.URL.Query().Get("page"))
		case r.URL.Path == "/patients" && r.Method == http.MethodPost:
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"created": %s, "type": %q}`, body, r.Header.Get("Content-Type"))
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error": "no such thing"}`)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestAdaptors(t *testing.T) {
	nodePackages(t, ".")
	nodePackages(t, workerFolder)
	repo := adaptorRepo(t)
	server := patients(t)
	common, web := adaptors[0], adaptors[1]
	step := func(id, adaptor, source string, next any) object {
		return object{"id": id, "adaptors": []string{adaptor}, "expression": source, "next": next}
	}
	configuration := object{"baseUrl": server.URL, "username": "nurse", "password": "secret"}
	flows := []struct {
		name  string
		steps []any
	}{
		{"common", []any{
			step("a", common, `import { fn, each, fnIf, combine, dataValue, dateFns, field, fields, merge, sourceValue, cursor } from '@openfn/language-common';
export default [
  fn((state) => ({ ...state, total: 0, seen: [] })),
  each('$.data.items[*]', fn((state) => { state.seen.push(state.data.name); state.total += state.data.n; return state; })),
  combine(fn((state) => ({ ...state, first: dataValue('items[0].name')(state) })), fn((state) => ({ ...state, second: sourceValue('$.data.items[1].name')(state) }))),
  fn((state) => ({ ...state, made: fields(field('x', 1), field('y', dataValue('items[0].n')(state))), merged: merge('$.data.items[*]', fields(field('extra', true)))(state) })),
  fn((state) => ({ ...state, date: dateFns.format(new Date(2020, 1, 3), 'yyyy-MM-dd') })),
  fnIf((state) => state.total > 5, fn((state) => ({ ...state, large: true }))),
  cursor('2024-05-01'),
];`, object{"b": "state.large"}),
			step("b", common, `import { each, fn, lastReferenceValue, composeNextState } from '@openfn/language-common';
export default [
  fn((state) => composeNextState(state, { answer: 42 })),
  fn((state) => ({ ...state, last: lastReferenceValue('items')(state) })),
  each((state) => [1, 2, 3], fn((state) => { if (state.data === 3) throw new Error('three'); return state; })),
];`, nil),
		}},
		{"http", []any{
			step("a", web, `import { get, fn } from '@openfn/language-http';
export default [
  get('/patients', { query: { page: '2' } }),
  fn((state) => ({ data: state.data, references: state.references, status: state.response?.statusCode })),
];`, object{"b": "state.data.items.length == 2"}),
			step("b", web, `import { post, each, fn } from '@openfn/language-http';
export default [
  fn((state) => ({ ...state, posted: [] })),
  each((state) => state.data.items, post('/patients', (state) => ({ copy: state.data }), { headers: { 'x-from': 'millrace' } })),
  fn((state) => ({ data: state.data, references: state.references })),
];`, object{"c": true}),
			step("c", web, `import { get } from '@openfn/language-http';
export default [get('/missing')];`, nil),
		}},
	}
	eng := newEngine(t, repo)
	for _, c := range flows {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range c.steps {
				s.(object)["configuration"] = configuration
				if s.(object)["next"] == nil {
					delete(s.(object), "next")
				}
			}
			f := flow{
				Plan:  object{"workflow": object{"steps": c.steps}, "options": object{}},
				Input: object{"data": object{"items": []any{object{"name": "Ada", "n": 4}, object{"name": "José", "n": 5}}}},
			}
			want := onReference(t, []flow{f}, object{"linker": object{"repo": repo}})[0]
			got := onMillrace(t, eng, f)
			if want.Error != nil || got.Error != nil {
				t.Fatalf("the reference: %v; millrace: %v", want.Error, got.Error)
			}
			withoutTimes(want.State)
			withoutTimes(got.State)
			for _, p := range compare(f, want, got) {
				t.Error(p)
			}
			if state, _ := got.State.(object); len(state) == 0 || reflect.DeepEqual(got.State, f.Input) {
				t.Errorf("the jobs did nothing: %s", short(got.State))
			}
			t.Logf("final state: %s", short(got.State))
		})
	}
}

// withoutTimes removes what no two runs have in common.
func withoutTimes(v any) {
	switch v := v.(type) {
	case object:
		delete(v, "duration")
		delete(v, "cursorStart")
		for _, item := range v {
			withoutTimes(item)
		}
	case []any:
		for _, item := range v {
			withoutTimes(item)
		}
	}
}
