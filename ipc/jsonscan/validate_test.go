package jsonscan

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestValidateAccepts(t *testing.T) {
	for _, doc := range []string{
		`{}`, `[]`, `""`, `0`, `-0`, `-0.0e+10`, `1E-7`, `123456789012345678901234567890`,
		`true`, `false`, `null`, " \t\r\n[ ] \n", `[[],{},[{}]]`,
		`{"a" : 1 , "b":[ 1 , 2 ], "":{}}`,
		`"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00"`, `"\ud800"`, `"\udc00\ud800x"`,
		`"é€😀"`, "\"\x7f\"", `"12345678901234567890"`, `"1234567é"`,
		strings.Repeat("[", DefaultMaxDepth) + strings.Repeat("]", DefaultMaxDepth),
	} {
		if err := Validate([]byte(doc)); err != nil {
			t.Errorf("%.40q: %v", doc, err)
		}
		if err := inChunks([]byte(doc), func() int { return 1 }); err != nil {
			t.Errorf("%.40q byte by byte: %v", doc, err)
		}
	}
}

func TestValidateRejects(t *testing.T) {
	for _, c := range []struct {
		doc          string
		offset       int64
		line, column int
		msg          string
	}{
		{`{`, 1, 1, 2, `unexpected end, expected a key in double quotes or '}'`},
		{`[`, 1, 1, 2, `unexpected end, expected a value or ']'`},
		{`[1`, 2, 1, 3, `unexpected end, expected ',' or ']'`},
		{`[1,]`, 3, 1, 4, `found ']', expected a value`},
		{`{"a":1,}`, 7, 1, 8, `found '}', expected a key in double quotes`},
		{`{a:1}`, 1, 1, 2, `found 'a', expected a key in double quotes or '}'`},
		{`{"a" 1}`, 5, 1, 6, `found '1', expected ':' after the key`},
		{`{"a":1]`, 6, 1, 7, `found ']', expected ',' or '}'`},
		{`[1}`, 2, 1, 3, `found '}', expected ',' or ']'`},
		{"{}\n x", 4, 2, 2, `found 'x', expected the end of the document`},
		{`1 2`, 2, 1, 3, `found '2', expected the end of the document`},
		{`,`, 0, 1, 1, `found ',', expected a value`},
		{`1,2`, 1, 1, 2, `found ',', expected the end of the document`},
		{`01`, 1, 1, 2, `found '1', expected no digit after a leading zero`},
		{`-`, 1, 1, 2, `unexpected end, expected a digit`},
		{`-a`, 1, 1, 2, `found 'a', expected a digit`},
		{`+1`, 0, 1, 1, `found '+', expected a value`},
		{`1.`, 2, 1, 3, `unexpected end, expected a digit`},
		{`[1.]`, 3, 1, 4, `found ']', expected a digit`},
		{`1.5.2`, 3, 1, 4, `found '.', expected the end of the document`},
		{`1e`, 2, 1, 3, `unexpected end, expected a sign or a digit`},
		{`1e+x`, 3, 1, 4, `found 'x', expected a digit`},
		{`.5`, 0, 1, 1, `found '.', expected a value`},
		{`NaN`, 0, 1, 1, `found 'N', expected a value`},
		{`nul`, 3, 1, 4, `unexpected end, expected "l" of "null"`},
		{`[tru e]`, 4, 1, 5, `found ' ', expected "e" of "true"`},
		{`"abc`, 4, 1, 5, `unexpected end, expected the rest of the string (control characters must be escaped)`},
		{"\"a\nb\"", 2, 1, 3, `found byte 0x0A, expected the rest of the string (control characters must be escaped)`},
		{"\"12345678\x00\"", 9, 1, 10, `found byte 0x00, expected the rest of the string (control characters must be escaped)`},
		{`"\x"`, 2, 1, 3, `found 'x', expected one of "\/bfnrtu after the backslash`},
		{`"\u12g4"`, 5, 1, 6, `found 'g', expected four hexadecimal digits after \u`},
		{`'a'`, 0, 1, 1, `found '\'', expected a value`},
		{"[\n\n 1,\n  x]", 9, 4, 3, `found 'x', expected a value`},
		{"\"ab\xff\"", 3, 1, 4, `invalid UTF-8 in a string`},
		{"\"ab\xc3\"", 3, 1, 4, `invalid UTF-8 in a string`},
		{"\"\xed\xa0\x80\"", 1, 1, 2, `invalid UTF-8 in a string`},
		{"\"\xc0\x80\"", 1, 1, 2, `invalid UTF-8 in a string`},
		{"\"\xf4\x90\x80\x80\"", 1, 1, 2, `invalid UTF-8 in a string`},
		{"\xEF\xBB1", 0, 1, 1, `found byte 0xEF, expected a value`},
		{"\u00a01", 0, 1, 1, `found byte 0xC2, expected a value`},
		{"[1]\x00", 3, 1, 4, `found byte 0x00, expected the end of the document`},
	} {
		whole := Validate([]byte(c.doc))
		want := SyntaxError{Offset: c.offset, Line: c.line, Column: c.column, Msg: c.msg}
		var got *SyntaxError
		if !errors.As(whole, &got) || *got != want {
			t.Errorf("%q:\n got %v\nwant %v", c.doc, whole, &want)
		}
		bytewise := inChunks([]byte(c.doc), func() int { return 1 })
		if !sameError(whole, bytewise) {
			t.Errorf("%q byte by byte:\n got %v\nwant %v", c.doc, bytewise, whole)
		}
	}
}

func TestValidateOwnErrors(t *testing.T) {
	for _, doc := range []string{"", " \n"} {
		if err := Validate([]byte(doc)); !errors.Is(err, ErrEmpty) {
			t.Errorf("%q: %v", doc, err)
		}
	}
	for size := range 4 {
		err := inChunks([]byte("\xEF\xBB\xBF{}"), func() int { return size + 1 })
		if !errors.Is(err, ErrBOM) {
			t.Errorf("byte order mark in chunks of %d: %v", size+1, err)
		}
	}
	v := NewValidator(3)
	err := v.Feed([]byte(`[{"a":[[]]}]`))
	var deep *DepthError
	if !errors.As(err, &deep) || *deep != (DepthError{Offset: 7, Depth: 4, Limit: 3}) {
		t.Errorf("depth: %v", err)
	}
	if again := v.Feed([]byte(`1`)); !errors.Is(again, err) {
		t.Errorf("after an error: %v", again)
	}
	v.Reset()
	if err := errors.Join(v.Feed([]byte(`[[[`)), v.Feed([]byte(`]]]`)), v.Finish()); err != nil {
		t.Errorf("after Reset: %v", err)
	}
}

// inChunks validates doc cut into chunks of the sizes given.
func inChunks(doc []byte, size func() int) error {
	var v Validator
	for len(doc) > 0 {
		n := min(size(), len(doc))
		// A copy of its own, so that reading past the chunk is caught.
		chunk := make([]byte, n)
		copy(chunk, doc)
		if err := v.Feed(chunk); err != nil {
			return err
		}
		doc = doc[n:]
	}
	return v.Finish()
}

func sameError(a, b error) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
}

// seeds are small documents, valid and not, for every fuzz target.
var seeds = []string{
	``, ` `, `{}`, `[]`, `""`, `-1.5e+3`, `nul`, `{"a":1,"b":[1,2,{"c":null}],"a":"x"}`,
	`{"é":"\ud83d\ude00","\u00e9":2, "\ud800":3}`, `[1,2,3,[4,[5]],"six"]`, "\xEF\xBB\xBF1",
	"\"\xff\"", `{"a":}`, "[\n1 ,\t2 ]\r\n", `{"":{"":{"":0}}}`, `[1 2]`,
	`{"a":true,"b":false,"c":null,"d":0.1,"e":"0123456789abcdef","f":{},"g":[]}`,
}

func FuzzValidate(f *testing.F) {
	for i, doc := range seeds {
		f.Add([]byte(doc), uint64(i))
	}
	f.Fuzz(func(t *testing.T, doc []byte, seed uint64) {
		err := Validate(doc)
		if want := json.Valid(doc) && utf8.Valid(doc); (err == nil) != want {
			t.Fatalf("%q: valid is %v, got %v", doc, want, err)
		}
		random := rand.New(rand.NewPCG(seed, 1))
		cut := inChunks(doc, func() int { return 1 + random.IntN(12) })
		if !sameError(err, cut) {
			t.Fatalf("%q: whole %v, in chunks %v", doc, err, cut)
		}
	})
}

func TestValidateGenerated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := []byte(genJSON(3).Draw(t, "doc"))
		if rapid.Bool().Draw(t, "damage") && len(doc) > 0 {
			at := rapid.IntRange(0, len(doc)-1).Draw(t, "at")
			doc[at] = rapid.SampledFrom([]byte("{}[]\",:0-.e\\ \n\xc3x")).Draw(t, "byte")
		}
		err := Validate(doc)
		if want := json.Valid(doc) && utf8.Valid(doc); (err == nil) != want {
			t.Fatalf("%q: valid is %v, got %v", doc, want, err)
		}
		sizes := rapid.IntRange(1, 9)
		if cut := inChunks(doc, func() int { return sizes.Draw(t, "size") }); !sameError(err, cut) {
			t.Fatalf("%q: whole %v, in chunks %v", doc, err, cut)
		}
	})
}

// genJSON generates valid documents with odd white space, escapes, duplicate
// keys and numbers.
func genJSON(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		space := func() string { return rapid.SampledFrom([]string{"", "", "", " ", "\n", "\t \r\n  "}).Draw(t, "space") }
		text := func() string {
			return rapid.SampledFrom([]string{`"a"`, `"b"`, `""`, `"id"`, `"\u0061"`, `"é"`, `"\ud83d\ude00😀"`,
				`"a long string of plain characters"`, `"\\\"\n"`, `"\ud800"`}).Draw(t, "string")
		}
		kinds := 3
		if depth > 0 {
			kinds = 5
		}
		body := ""
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			body = text()
		case 1:
			body = rapid.SampledFrom([]string{"0", "-0", "17", "1234567890123", "1.5", "-2.25e-3", "1E9", "0.1"}).Draw(t, "number")
		case 2:
			body = rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "literal")
		default:
			brackets, object := "[]", rapid.Bool().Draw(t, "object")
			if object {
				brackets = "{}"
			}
			var parts []string
			for range rapid.IntRange(0, 5).Draw(t, "size") {
				part := genJSON(depth-1).Draw(t, "part")
				if object {
					part = space() + text() + space() + ":" + part
				}
				parts = append(parts, part)
			}
			if body = strings.Join(parts, ","); body == "" {
				body = space()
			}
			body = brackets[:1] + body + brackets[1:]
		}
		return space() + body + space()
	})
}
