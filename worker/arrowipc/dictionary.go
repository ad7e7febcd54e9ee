package arrowipc

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// dictionary is one dictionary id: where its batches are, and the values as
// they were last asked for.
type dictionary struct {
	id      int64
	values  *column
	batches []dictionaryBatch

	cached      *array.Data
	cachedBatch int // index of the last batch in it
	cachedLimit int // as loader.limit, matters if values has dictionaries
}

type dictionaryBatch struct {
	pos   int64 // of the message
	order int   // among all dictionary batches of the stream
	delta bool
}

// addDictionary notes a dictionary batch met on the walk over the messages.
func (r *Reader) addDictionary(pos int64, msg *message) error {
	id, delta := msg.header.int64At(4), msg.header.byteAt(8) != 0
	if msg.meta.err != nil {
		return msg.meta.err
	}
	d := r.dicts[id]
	if d == nil {
		return formatErrorf(msg.meta.base, "a dictionary batch for id %d, which the schema does not use", id)
	}
	if delta && len(d.batches) == 0 {
		return formatErrorf(msg.meta.base, "a delta for dictionary %d, which has no values yet", id)
	}
	d.batches = append(d.batches, dictionaryBatch{pos: pos, order: r.dictBatches, delta: delta})
	r.dictBatches++
	return nil
}

// loadDict completes a dictionary array: its indices are loaded.
func (l *loader) loadDict(col *column, length, nulls int64, buffers []*memory.Buffer) (*array.Data, error) {
	values, err := l.dictValues(col, length == nulls)
	if err != nil {
		return nil, err
	}
	return array.NewDataWithDictionary(col.dtype, int(length), buffers, int(nulls), 0, values), nil
}

// dictValues gives the values of a column's dictionary as the batch sees them.
// If every row is null, the dictionary may come later, or never.
func (l *loader) dictValues(col *column, unused bool) (*array.Data, error) {
	d := col.dict
	last := len(d.batches) - 1
	for last >= 0 && d.batches[last].order >= l.limit {
		last--
	}
	if last < 0 {
		if !unused {
			return nil, col.errorf(l.msg.meta.base, "dictionary %d is missing", d.id)
		}
		return emptyValues(d.values.dtype, l.msg.meta.base)
	}
	if d.cached != nil && d.cachedBatch == last && (d.cachedLimit == l.limit || !d.values.hasDict) {
		return d.cached, nil
	}
	first := last
	for d.batches[first].delta {
		first--
	}
	parts := make([]arrow.Array, 0, last-first+1)
	for _, batch := range d.batches[first : last+1] {
		data, err := l.loadValues(d, batch)
		if err != nil {
			return nil, err
		}
		if first == last {
			d.cached, d.cachedBatch, d.cachedLimit = data, last, l.limit
			return data, nil
		}
		// Concatenate trusts its input.
		if err := validate(d.values, data, batch.pos); err != nil {
			return nil, err
		}
		part, err := makeArray(data, batch.pos)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	data, err := l.concatenate(parts, d.batches[last].pos)
	if err != nil {
		return nil, err
	}
	d.cached, d.cachedBatch, d.cachedLimit = data, last, l.limit
	return data, nil
}

// loadValues loads the values of one dictionary batch.
func (l *loader) loadValues(d *dictionary, batch dictionaryBatch) (*array.Data, error) {
	// A type holds no dictionary of itself, so this cannot go on for ever; it
	// is cheap to be sure.
	if l.depth >= MaxDepth {
		return nil, formatErrorf(batch.pos, "dictionaries nest deeper than %d", MaxDepth)
	}
	var msg message
	if ok, err := readMessage(l.r.buf, batch.pos, l.r.end, &msg); err != nil || !ok || msg.kind != headerDictionary {
		return nil, noMessage(batch.pos, err)
	}
	data, ok := msg.header.tableAt(6)
	if !ok {
		return nil, formatErrorf(msg.meta.base, "a dictionary batch without values")
	}
	sub := loader{r: l.r, msg: &msg, batch: data, limit: l.limit, copyLeft: l.copyLeft, depth: l.depth + 1}
	rows, err := sub.start()
	if err != nil {
		return nil, err
	}
	values, err := sub.load(d.values)
	if err != nil {
		return nil, err
	}
	if int64(values.Len()) != rows {
		return nil, d.values.errorf(msg.meta.base, "%d values in a dictionary batch of %d", values.Len(), rows)
	}
	if l.r.full {
		if err := validate(d.values, values, msg.bodyAt); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (l *loader) concatenate(parts []arrow.Array, at int64) (data *array.Data, err error) {
	defer guard(at, &err)
	var size int64
	for _, part := range parts {
		size += concatSize(part.Data())
	}
	if err := l.spend(size, at); err != nil {
		return nil, err
	}
	all, err := array.Concatenate(parts, memory.DefaultAllocator)
	if err != nil {
		return nil, formatErrorf(at, "delta dictionary: %v", err)
	}
	return all.Data().(*array.Data), nil
}

// concatSize bounds what an array adds to a concatenation: its bytes, and a
// validity bitmap even if it has none.
func concatSize(data arrow.ArrayData) int64 {
	size := int64(data.Len())/8 + 1
	for _, b := range data.Buffers() {
		if b != nil {
			size += int64(b.Len())
		}
	}
	for _, child := range data.Children() {
		size += concatSize(child)
	}
	return size
}

func emptyValues(dtype arrow.DataType, at int64) (data *array.Data, err error) {
	defer guard(at, &err)
	b := array.NewBuilder(memory.DefaultAllocator, dtype)
	defer b.Release()
	return b.NewArray().Data().(*array.Data), nil
}

func makeArray(data *array.Data, at int64) (arr arrow.Array, err error) {
	defer guard(at, &err)
	return array.MakeFromData(data), nil
}
