package ipc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/shm"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

const vectorsFile = "testdata/vectors.json"

// vectors is the file that every implementation of the protocol tests against.
type vectors struct {
	About     string     `json:"about"`
	Version   int        `json:"version"`
	Frames    []vector   `json:"frames"`
	BadFrames []badFrame `json:"badFrames"`
}

type vector struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// DecodeOnly frames are understood but not written like this.
	DecodeOnly bool           `json:"decodeOnly,omitempty"`
	ID         any            `json:"id"`
	Head       map[string]any `json:"head"`
	Table      any            `json:"table"`
	Files      int            `json:"files"`
	Hex        string         `json:"hex"`
}

type badFrame struct {
	Name  string `json:"name"`
	Hex   string `json:"hex"`
	Error string `json:"error"`
}

const aboutVectors = "Frames of millrace's control channel, see PROTOCOL.md. " +
	"Unsigned integers that a double cannot hold exactly are decimal strings. " +
	"Encoding a frame's head and table gives its hex, decoding its hex gives them back; " +
	"a decodeOnly frame only the latter. No bad frame may be accepted; error is for people."

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	raw, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var file vectors
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, v := range file.Frames {
		seen[v.Type]++
		t.Run(v.Name, func(t *testing.T) { checkVector(t, v) })
	}
	for typ := TypeHello; typ <= TypeStreamEnd; typ++ {
		if seen[typ.String()] == 0 {
			t.Errorf("no vector of a %s", typ)
		}
	}
	for _, v := range file.BadFrames {
		t.Run("bad/"+v.Name, func(t *testing.T) {
			e, err := ParseFrame(unhex(t, v.Hex))
			if err == nil {
				t.Fatalf("accepted: %+v", e)
			}
			if err.Error() != v.Error {
				t.Errorf("error %q, recorded is %q", err, v.Error)
			}
		})
	}
	// The cases here and the file must not drift apart.
	if want := buildVectors(t); !bytes.Equal(want, raw) {
		t.Errorf("%s is not what the cases give: go test -run TestVectors -update ./ipc", vectorsFile)
	}
}

func checkVector(t *testing.T, v vector) {
	want := unhex(t, v.Hex)
	got, err := ParseFrame(want)
	if err != nil {
		t.Fatal(err)
	}
	decoded := vector{
		Name: v.Name, Type: got.Message.Type().String(), DecodeOnly: v.DecodeOnly,
		ID: plain(reflect.ValueOf(got.ID)), Head: headOf(got.Message), Table: tableOf(got.State),
		Files: int(want[6]), Hex: v.Hex,
	}
	if diff := cmp.Diff(normal(t, v), normal(t, decoded)); diff != "" {
		t.Errorf("decoded otherwise (-file +decoded):\n%s", diff)
	}
	if v.DecodeOnly {
		return
	}
	m := messageNamed(t, v.Type)
	fill(t, reflect.ValueOf(m).Elem(), v.Head)
	e := Envelope{Message: m, File: standIn(v.Files)}
	fill(t, reflect.ValueOf(&e.ID).Elem(), v.ID)
	fill(t, reflect.ValueOf(&e.State).Elem(), v.Table)
	b, err := AppendFrame([]byte("before"), &e)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hex.EncodeToString(want), hex.EncodeToString(b[len("before"):])); diff != "" {
		t.Errorf("encoded otherwise (-file +encoded):\n%s", diff)
	}
}

func writeVectors(t *testing.T) {
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorsFile, buildVectors(t), 0o644); err != nil {
		t.Fatal(err)
	}
}

func buildVectors(t *testing.T) []byte {
	file := vectors{About: aboutVectors, Version: Version}
	for _, c := range vectorCases() {
		file.Frames = append(file.Frames, newVector(t, c.name, c.e, nil))
	}
	for _, c := range decodeOnlyCases() {
		file.Frames = append(file.Frames, newVector(t, c.name, c.e, c.change))
	}
	for _, c := range badCases() {
		b := c.change(frameOf(t, c.e))
		e, err := ParseFrame(b)
		if err == nil {
			t.Fatalf("%s is accepted: %+v", c.name, e)
		}
		file.BadFrames = append(file.BadFrames, badFrame{Name: c.name, Hex: hex.EncodeToString(b), Error: err.Error()})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(file); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func newVector(t *testing.T, name string, e Envelope, change func([]byte) []byte) vector {
	b := frameOf(t, e)
	if change != nil {
		b = change(b)
	}
	files := 0
	if e.File != nil {
		files = 1
	}
	return vector{
		Name: name, Type: e.Message.Type().String(), DecodeOnly: change != nil,
		ID: plain(reflect.ValueOf(e.ID)), Head: headOf(e.Message), Table: tableOf(e.State),
		Files: files, Hex: hex.EncodeToString(b),
	}
}

func frameOf(t testing.TB, e Envelope) []byte {
	t.Helper()
	b, err := AppendFrame(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// standIn is a descriptor for frames that are not sent.
func standIn(files int) *os.File {
	if files == 0 {
		return nil
	}
	return os.Stdin
}

func messageNamed(t *testing.T, name string) Message {
	for typ := TypeHello; typ <= TypeStreamEnd; typ++ {
		if typ.String() == name {
			m, err := newMessage(typ)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
	}
	t.Fatalf("no type is called %q", name)
	return nil
}

func headOf(m Message) map[string]any {
	return plain(reflect.ValueOf(m).Elem()).(map[string]any)
}

func tableOf(t Table) any { return plain(reflect.ValueOf(t)) }

// plain turns a field into what JSON holds of it.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Struct:
		m := make(map[string]any)
		for i := range v.NumField() {
			m[jsonName(v.Type().Field(i).Name)] = plain(v.Field(i))
		}
		return m
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case reflect.Int64: // a duration in nanoseconds
		return plain(reflect.ValueOf(uint64(v.Int())))
	case reflect.Uint64:
		if n := v.Uint(); n > 1<<53-1 {
			return strconv.FormatUint(n, 10)
		}
	}
	return v.Interface()
}

// fill is plain's inverse.
func fill(t *testing.T, v reflect.Value, from any) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), from.(map[string]any)[jsonName(v.Type().Field(i).Name)])
		}
	case reflect.Slice:
		list := from.([]any)
		if len(list) > 0 {
			v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
		}
		for i := range list {
			fill(t, v.Index(i), list[i])
		}
	case reflect.String:
		v.SetString(from.(string))
	case reflect.Bool:
		v.SetBool(from.(bool))
	default:
		text, ok := from.(string)
		if !ok {
			text = from.(json.Number).String()
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if v.CanInt() {
			v.SetInt(int64(n))
		} else {
			v.SetUint(n)
		}
	}
}

// jsonName is the field's name in PROTOCOL.md: memoryLimit for MemoryLimit.
func jsonName(field string) string {
	if strings.ToUpper(field) == field {
		return strings.ToLower(field)
	}
	r := []rune(field)
	r[0] = unicode.ToLower(r[0])
	return string(r)
}

// normal makes what was read and what was built comparable.
func normal(t *testing.T, v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put32(b []byte, at int, v uint32) []byte {
	binary.LittleEndian.PutUint32(b[at:], v)
	return b
}

func ref(segment shm.SegmentID, offset, length uint64, encoding shm.Encoding) shm.Ref {
	return shm.Ref{Segment: segment, Offset: offset, Length: length, Encoding: encoding}
}
