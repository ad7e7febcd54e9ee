package arrowipc_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/millrace/millrace/worker/arrowipc"
)

// split cuts a stream with the current framing into its messages.
func split(t tester, data []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for len(data) >= 8 {
		metaLen := int(binary.LittleEndian.Uint32(data[4:]))
		if metaLen == 0 {
			break
		}
		var root flatbuffers.Table
		root.Bytes = data[8 : 8+metaLen]
		root.Pos = flatbuffers.GetUOffsetT(root.Bytes)
		size := 8 + metaLen
		if o := root.Offset(10); o != 0 {
			size += int(root.GetInt64(flatbuffers.UOffsetT(o) + root.Pos))
		}
		out = append(out, data[:size:size])
		data = data[size:]
	}
	return out
}

// pair is a field node (length, nulls) or a buffer (offset, length).
type pair struct{ a, b int64 }

// batch is a record batch message to be made, right or wrong.
type batch struct {
	rows     int64
	nodes    []pair
	buffers  []pair
	variadic []int64
	codec    int // 0 for none, else CompressionType + 1
	body     []byte
	bodyLen  int64 // 0 for the body's
	version  int16 // 0 for V5
}

func (b batch) frame() []byte {
	if b.version == 0 {
		b.version = 4
	}
	if b.bodyLen == 0 {
		b.bodyLen = int64(len(b.body))
	}
	fb := flatbuffers.NewBuilder(256)
	pairs := func(list []pair) flatbuffers.UOffsetT {
		fb.StartVector(16, len(list), 8)
		for i := len(list) - 1; i >= 0; i-- {
			fb.Prep(8, 16)
			fb.PrependInt64(list[i].b)
			fb.PrependInt64(list[i].a)
		}
		return fb.EndVector(len(list))
	}
	nodes, buffers := pairs(b.nodes), pairs(b.buffers)
	fb.StartVector(8, len(b.variadic), 8)
	for i := len(b.variadic) - 1; i >= 0; i-- {
		fb.PrependInt64(b.variadic[i])
	}
	variadic := fb.EndVector(len(b.variadic))
	var compression flatbuffers.UOffsetT
	if b.codec > 0 {
		fb.StartObject(2)
		fb.PrependInt8Slot(0, int8(b.codec-1), 0)
		compression = fb.EndObject()
	}
	fb.StartObject(5)
	fb.PrependInt64Slot(0, b.rows, 0)
	fb.PrependUOffsetTSlot(1, nodes, 0)
	fb.PrependUOffsetTSlot(2, buffers, 0)
	fb.PrependUOffsetTSlot(3, compression, 0)
	fb.PrependUOffsetTSlot(4, variadic, 0)
	header := fb.EndObject()
	fb.StartObject(5)
	fb.PrependInt16Slot(0, b.version, 0)
	fb.PrependByteSlot(1, 3, 0)
	fb.PrependUOffsetTSlot(2, header, 0)
	fb.PrependInt64Slot(3, b.bodyLen, 0)
	fb.Finish(fb.EndObject())
	return frame(fb.FinishedBytes(), b.body)
}

func frame(meta, body []byte) []byte {
	meta = append(bytes.Clone(meta), make([]byte, (8-len(meta)%8)%8)...)
	out := binary.LittleEndian.AppendUint32(nil, math.MaxUint32)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(meta)))
	return append(append(out, meta...), body...)
}

func schemaFrame(t tester, dt arrow.DataType) []byte {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: dt, Nullable: true}}, nil)
	return split(t, writeStream(t, schema, nil))[0]
}

func le32(v ...int32) []byte {
	var out []byte
	for _, x := range v {
		out = binary.LittleEndian.AppendUint32(out, uint32(x))
	}
	return append(out, make([]byte, (8-len(out)%8)%8)...)
}

// A batch whose numbers do not fit is refused when it is taken, or, what only
// a pass over the rows finds, with full validation.
func TestInconsistentBatches(t *testing.T) {
	str, i32, i64 := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64
	field := arrow.Field{Name: "a", Type: i32, Nullable: true}
	const huge = math.MaxInt64
	tests := []struct {
		name string
		dt   arrow.DataType
		batch
		full bool   // found by full validation only
		want string // part of the error; empty: the batch is good
	}{
		{"good", i32, batch{rows: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, ""},
		{"rows are not the column's", i32, batch{rows: 1, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "2 values in a batch of 1"},
		{"negative rows", i32, batch{rows: -1, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "-1 rows"},
		{"buffer too short", i32, batch{rows: 3, nodes: []pair{{3, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "8 bytes where 12 are needed"},
		{"buffer outside the body", i32, batch{rows: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {8, 8}}, body: le32(1, 2)}, false, "body of 8"},
		{"buffer's end overflows", i32, batch{rows: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {8, huge}}, body: le32(1, 2)}, false, "body of 8"},
		{"buffer at a huge offset", i32, batch{rows: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {huge, 8}}, body: le32(1, 2)}, false, "body of 8"},
		{"buffer at a negative offset", i32, batch{rows: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {-8, 8}}, body: le32(1, 2)}, false, "body of 8"},
		{"negative buffer", i32, batch{rows: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {8, -8}}, body: le32(1, 2)}, false, "body of 8"},
		{"length overflows", i64, batch{rows: huge, nodes: []pair{{huge, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "rows"},
		{"length times width overflows", i64, batch{rows: 1 << 48, nodes: []pair{{1 << 48, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "needed"},
		{"negative length", i32, batch{nodes: []pair{{-1, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "length of -1"},
		{"negative null count", i32, batch{rows: 2, nodes: []pair{{2, -1}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "-1 nulls"},
		{"more nulls than values", i32, batch{rows: 2, nodes: []pair{{2, 3}}, buffers: []pair{{0, 1}, {0, 8}}, body: le32(1, 2)}, false, "3 nulls in 2"},
		{"nulls without a bitmap", i32, batch{rows: 2, nodes: []pair{{2, 1}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "0 bytes where 1"},
		{"null count is not the bitmap's", i32, batch{rows: 2, nodes: []pair{{2, 1}}, buffers: []pair{{0, 1}, {0, 8}}, body: le32(3, 2)}, true, "1 nulls announced, but 0"},
		{"no node", i32, batch{rows: 2, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "0 field nodes"},
		{"no buffer", i32, batch{rows: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}}, body: le32(1, 2)}, false, "1 buffers"},
		{"body longer than the stream", i32, batch{rows: 2, bodyLen: 1 << 40, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "a body of"},
		{"negative body", i32, batch{rows: 2, bodyLen: -8, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "a body of"},
		{"old metadata", i32, batch{rows: 2, version: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "version V3"},
		{"unknown compression", i32, batch{rows: 2, codec: 3, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 8}}, body: le32(1, 2)}, false, "compression 2"},
		{"compressed garbage", i32, batch{rows: 2, codec: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 16}}, body: le32(8, 0, 1, 2)}, false, "ZSTD"},
		{"compressed size is absurd", i32, batch{rows: 2, codec: 1, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 16}}, body: le32(0, 1, 1, 2)}, false, "claim to be 4294967296"},
		{"compressed size is negative", i32, batch{rows: 2, codec: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 16}}, body: le32(-2, -1, 1, 2)}, false, "-2 bytes"},

		{"text ends outside", str, batch{rows: 1, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 8}, {8, 4}}, body: le32(0, 5, 0x61616161)}, false, "offsets from 0 to 5 into 4"},
		{"text starts outside", str, batch{rows: 1, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 8}, {8, 4}}, body: le32(-1, 4, 0x61616161)}, false, "offsets from -1"},
		{"text ends before its start", str, batch{rows: 1, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 8}, {8, 4}}, body: le32(2, 1, 0x61616161)}, false, "offsets from 2 to 1"},
		{"text's middle is outside", str, batch{rows: 2, nodes: []pair{{2, 0}}, buffers: []pair{{0, 0}, {0, 12}, {16, 4}}, body: le32(0, 1<<30, 4, 0, 0x61616161)}, true, "row 1 ends at 4"},
		{"text is not UTF-8", str, batch{rows: 1, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 8}, {8, 4}}, body: le32(0, 4, -1)}, true, "not valid UTF-8"},
		{"no offsets", str, batch{rows: 1, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 4}, {8, 4}}, body: le32(0, 4, 0)}, false, "4 bytes where 8"},

		{"list's child too short", arrow.ListOf(i32), batch{rows: 1, nodes: []pair{{1, 0}, {1, 0}}, buffers: []pair{{0, 0}, {0, 8}, {0, 0}, {8, 8}}, body: le32(0, 2, 7, 8)}, false, "offsets from 0 to 2 into 1"},
		{"fixed list's child too short", arrow.FixedSizeListOf(2, i32), batch{rows: 1, nodes: []pair{{1, 0}, {1, 0}}, buffers: []pair{{0, 0}, {0, 0}, {0, 8}}, body: le32(7, 8)}, false, "only 1 values"},
		{"fixed list overflows", arrow.FixedSizeListOf(math.MaxInt32, i32), batch{rows: 1 << 47, nodes: []pair{{1 << 47, 0}, {1, 0}}, buffers: []pair{{0, 0}, {0, 0}, {0, 8}}, body: le32(7, 8)}, false, "values of"},
		{"list view outside", arrow.ListViewOf(i32), batch{rows: 1, nodes: []pair{{1, 0}, {1, 0}}, buffers: []pair{{0, 0}, {0, 4}, {8, 4}, {0, 0}, {16, 4}}, body: le32(1, 0, 1, 0, 7, 8)}, true, "1 values at 1 of 1"},
		{"struct's child too short", arrow.StructOf(field), batch{rows: 2, nodes: []pair{{2, 0}, {1, 0}}, buffers: []pair{{0, 0}, {0, 0}, {0, 8}}, body: le32(7, 8)}, false, "1 values for 2 rows"},
		{"null keys in a map", arrow.MapOf(i32, i32), batch{rows: 1, nodes: []pair{{1, 0}, {1, 0}, {1, 1}, {1, 0}}, buffers: []pair{{0, 0}, {0, 8}, {0, 0}, {0, 1}, {8, 4}, {0, 0}, {8, 4}}, body: le32(0, 1, 0, 0)}, false, "no nulls"},
		{"unknown type code", arrow.SparseUnionOf([]arrow.Field{field}, []int8{5}), batch{rows: 1, nodes: []pair{{1, 0}, {1, 0}}, buffers: []pair{{0, 1}, {0, 0}, {8, 4}}, body: le32(4, 0, 0)}, true, "type code 4"},
		{"union's value outside", arrow.DenseUnionOf([]arrow.Field{field}, []int8{5}), batch{rows: 1, nodes: []pair{{1, 0}, {1, 0}}, buffers: []pair{{0, 1}, {8, 4}, {0, 0}, {8, 4}}, body: le32(5, 0, 1, 0)}, true, "value 1 of 1"},
		{"view outside", arrow.BinaryTypes.StringView, batch{rows: 1, variadic: []int64{1}, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 16}, {16, 16}}, body: le32(13, 0, 0, 4, 0, 0, 0, 0)}, true, "13 bytes at 4 of a buffer of 16"},
		{"view of negative size", arrow.BinaryTypes.StringView, batch{rows: 1, variadic: []int64{0}, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 16}}, body: le32(-1, 0, 0, 0)}, true, "-1 bytes"},
		{"view in a missing buffer", arrow.BinaryTypes.StringView, batch{rows: 1, variadic: []int64{0}, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 16}}, body: le32(13, 0, 0, 0)}, true, "buffer 0 of 0"},
		{"view's prefix is another", arrow.BinaryTypes.StringView, batch{rows: 1, variadic: []int64{1}, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 16}, {16, 16}}, body: le32(13, 1, 0, 0, 0, 0, 0, 0)}, true, "prefix"},
		{"more variadic buffers than buffers", arrow.BinaryTypes.StringView, batch{rows: 1, variadic: []int64{1 << 60}, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 16}}, body: le32(0, 0, 0, 0)}, false, "variadic"},
		{"no variadic count", arrow.BinaryTypes.StringView, batch{rows: 1, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 16}}, body: le32(0, 0, 0, 0)}, false, "0 variadic"},
		{"runs end early", arrow.RunEndEncodedOf(i32, i32), batch{rows: 3, nodes: []pair{{3, 0}, {1, 0}, {1, 0}}, buffers: []pair{{0, 0}, {0, 4}, {0, 0}, {0, 4}}, body: le32(2)}, false, "runs end at 2 of 3"},
		{"no runs", arrow.RunEndEncodedOf(i32, i32), batch{rows: 3, nodes: []pair{{3, 0}, {0, 0}, {0, 0}}, buffers: []pair{{0, 0}, {0, 0}, {0, 0}, {0, 0}}}, false, "runs end at 0 of 3"},
		{"runs go back", arrow.RunEndEncodedOf(i32, i32), batch{rows: 3, nodes: []pair{{3, 0}, {2, 0}, {2, 0}}, buffers: []pair{{0, 0}, {0, 8}, {0, 0}, {0, 8}}, body: le32(3, 3)}, true, "run 1 ends at 3"},
		{"nulls without bytes", arrow.Null, batch{rows: 1 << 40, nodes: []pair{{1 << 40, 1 << 40}}}, false, "limit"},
		{"structs without bytes", arrow.StructOf(), batch{rows: 1 << 40, nodes: []pair{{1 << 40, 0}}, buffers: []pair{{0, 0}}}, false, "limit"},
		{"missing dictionary", &arrow.DictionaryType{IndexType: i32, ValueType: str}, batch{rows: 1, nodes: []pair{{1, 0}}, buffers: []pair{{0, 0}, {0, 4}}, body: le32(0)}, false, "dictionary 0 is missing"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			data := append(schemaFrame(t, tc.dt), tc.batch.frame()...)
			for _, full := range []bool{false, true} {
				var opts []arrowipc.Option
				if full {
					opts = append(opts, arrowipc.WithFullValidation())
				}
				r, err := arrowipc.NewReader(data, opts...)
				if err != nil {
					t.Fatal(err)
				}
				_, err = r.At(0)
				switch {
				case tc.want == "" || tc.full && !full:
					if err != nil {
						t.Errorf("full=%v: %v", full, err)
					}
				case err == nil:
					t.Errorf("full=%v: accepted", full)
				case !strings.Contains(err.Error(), tc.want):
					t.Errorf("full=%v: %v", full, err)
				}
			}
		})
	}
}

func TestDictionaryIndexOutside(t *testing.T) {
	for _, index := range []arrow.DataType{arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint64} {
		dt := &arrow.DictionaryType{IndexType: index, ValueType: arrow.BinaryTypes.String}
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: dt}}, nil)
		g := newGenerator(1)
		values := g.array(arrow.BinaryTypes.String, 3, false)
		column := g.dictionary(dt, values, 8, false)
		frames := split(t, writeStream(t, schema, []arrow.Record{array.NewRecord(schema, []arrow.Array{column}, 8)}))
		body := frames[2][len(frames[2])-8:]
		body[7] = 0xFF
		r, err := arrowipc.NewReader(bytes.Join(frames, nil), arrowipc.WithFullValidation())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.At(0); err == nil {
			t.Errorf("%v: accepted", index)
		}
	}
}

// schemaMessage encodes a schema message from hand-made fields.
func schemaMessage(endian int16, fields func(fb *flatbuffers.Builder) flatbuffers.UOffsetT) []byte {
	fb := flatbuffers.NewBuilder(256)
	vec := fields(fb)
	fb.StartObject(4)
	fb.PrependInt16Slot(0, endian, 0)
	fb.PrependUOffsetTSlot(1, vec, 0)
	schema := fb.EndObject()
	fb.StartObject(5)
	fb.PrependInt16Slot(0, 4, 0)
	fb.PrependByteSlot(1, 1, 0)
	fb.PrependUOffsetTSlot(2, schema, 0)
	fb.Finish(fb.EndObject())
	return frame(fb.FinishedBytes(), nil)
}

func structField(fb *flatbuffers.Builder, children ...flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	fb.StartVector(4, len(children), 4)
	for _, c := range children {
		fb.PrependUOffsetT(c)
	}
	vec := fb.EndVector(len(children))
	fb.StartObject(0)
	typ := fb.EndObject()
	fb.StartObject(7)
	fb.PrependByteSlot(2, 13, 0) // Struct_
	fb.PrependUOffsetTSlot(3, typ, 0)
	fb.PrependUOffsetTSlot(5, vec, 0)
	return fb.EndObject()
}

func fieldVector(fb *flatbuffers.Builder, fields ...flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	fb.StartVector(4, len(fields), 4)
	for _, f := range fields {
		fb.PrependUOffsetT(f)
	}
	return fb.EndVector(len(fields))
}

// Schemas that would exhaust the stack or the memory of arrow's decoder.
func TestHostileSchemas(t *testing.T) {
	nest := func(depth, copies int) []byte {
		return schemaMessage(0, func(fb *flatbuffers.Builder) flatbuffers.UOffsetT {
			f := structField(fb)
			for range depth {
				list := make([]flatbuffers.UOffsetT, copies)
				for i := range list {
					list[i] = f
				}
				f = structField(fb, list...)
			}
			return fieldVector(fb, f)
		})
	}
	tests := map[string]struct {
		data []byte
		want string
	}{
		"deep enough":                           {nest(arrowipc.MaxDepth-1, 1), ""},
		"too deep":                              {nest(arrowipc.MaxDepth+2, 1), "too deep"},
		"shared children":                       {nest(40, 2), "more fields"},
		"big-endian":                            {schemaMessage(1, func(fb *flatbuffers.Builder) flatbuffers.UOffsetT { return fieldVector(fb) }), "big-endian"},
		"a record first":                        {batch{}.frame(), "must be a schema"},
		"empty":                                 {nil, "no schema"},
		"end marker first":                      {[]byte{255, 255, 255, 255, 0, 0, 0, 0}, "no schema"},
		"huge metadata":                         {[]byte{255, 255, 255, 255, 255, 255, 255, 127}, "limit"},
		"not Arrow":                             {[]byte(`{"data": []}`), "limit"},
		"a short file":                          {[]byte("ARROW1"), "cut short"},
		"a footer that is longer than its file": {[]byte("ARROW1\x00\x00\xff\xff\xff\x7fARROW1"), "footer"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := arrowipc.NewReader(tc.data)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// Every number in a schema or a footer is made another: counts, offsets and
// vtables among them, wherever they lie.
func TestEveryNumberChanged(t *testing.T) {
	schema, records := dictionaryRecords(t, []string{"a", "b"})
	file := writeFile(t, schema, records)
	footer := len(file) - 10 - int(binary.LittleEndian.Uint32(file[len(file)-10:]))
	nested := schemaMessage(0, func(fb *flatbuffers.Builder) flatbuffers.UOffsetT {
		return fieldVector(fb, structField(fb, structField(fb)))
	})
	for name, tc := range map[string]struct {
		data []byte
		from int
	}{"schema": {nested, 8}, "footer": {file, footer}} {
		t.Run(name, func(t *testing.T) {
			for at := tc.from; at+4 <= len(tc.data); at++ {
				for _, v := range []uint32{math.MaxUint32, math.MaxInt32, 1 << 24, 0, 1, 8, 15} {
					data := bytes.Clone(tc.data)
					binary.LittleEndian.PutUint32(data[at:], v)
					if err := readAll(data, true, arrowipc.WithFullValidation()); err != nil && !strings.HasPrefix(fmt.Sprintf("%T", err), "*arrowipc.") {
						t.Fatalf("%d at %d: %T %v", v, at, err, err)
					}
				}
			}
		})
	}
}
