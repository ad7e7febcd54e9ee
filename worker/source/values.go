package source

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// readProperties has columns read through bounded buffers.
func readProperties() *parquet.ReaderProperties {
	p := parquet.NewReaderProperties(memory.DefaultAllocator)
	p.BufferedStreamEnabled = true
	p.BufferSize = parquetBuffer
	return p
}

// appendValue appends `"name":value` of one row of a column.
type appendValue func(dst []byte, column arrow.Array, row int) ([]byte, error)

// appender returns what writes a column's values. Numbers, texts, truth values
// and times are written straight away; lists and the like as arrow's own JSON.
func appender(field arrow.Field) appendValue {
	key := append(jsonscan.AppendString(nil, field.Name), ':')
	value := valueAppender(field.Type.ID())
	return func(dst []byte, column arrow.Array, row int) ([]byte, error) {
		dst = append(dst, key...)
		if column.IsNull(row) {
			return append(dst, "null"...), nil
		}
		return value(dst, column, row)
	}
}

func valueAppender(id arrow.Type) appendValue {
	switch id {
	case arrow.INT8:
		return signed[int8]
	case arrow.INT16:
		return signed[int16]
	case arrow.INT32:
		return signed[int32]
	case arrow.INT64:
		return signed[int64]
	case arrow.UINT8:
		return unsigned[uint8]
	case arrow.UINT16:
		return unsigned[uint16]
	case arrow.UINT32:
		return unsigned[uint32]
	case arrow.UINT64:
		return unsigned[uint64]
	case arrow.FLOAT32:
		return floating[float32](32)
	case arrow.FLOAT64:
		return floating[float64](64)
	case arrow.STRING, arrow.LARGE_STRING:
		return func(dst []byte, column arrow.Array, row int) ([]byte, error) {
			s := column.(arrayOf[string]).Value(row)
			return jsonscan.AppendString(dst, strings.ToValidUTF8(s, "\uFFFD")), nil
		}
	case arrow.BOOL:
		return func(dst []byte, column arrow.Array, row int) ([]byte, error) {
			return strconv.AppendBool(dst, column.(arrayOf[bool]).Value(row)), nil
		}
	case arrow.TIMESTAMP:
		return func(dst []byte, column arrow.Array, row int) ([]byte, error) {
			unit := column.DataType().(*arrow.TimestampType).Unit
			t := column.(arrayOf[arrow.Timestamp]).Value(row).ToTime(unit).UTC()
			return append(t.AppendFormat(append(dst, '"'), "2006-01-02T15:04:05.999999999Z07:00"), '"'), nil
		}
	}
	return func(dst []byte, column arrow.Array, row int) ([]byte, error) {
		text, err := json.Marshal(column.GetOneForMarshal(row))
		return append(dst, text...), err
	}
}

func signed[T int8 | int16 | int32 | int64](dst []byte, column arrow.Array, row int) ([]byte, error) {
	return strconv.AppendInt(dst, int64(column.(arrayOf[T]).Value(row)), 10), nil
}

func unsigned[T uint8 | uint16 | uint32 | uint64](dst []byte, column arrow.Array, row int) ([]byte, error) {
	return strconv.AppendUint(dst, uint64(column.(arrayOf[T]).Value(row)), 10), nil
}

// floating writes numbers in the form that JavaScript would; JSON has no NaN
// and no infinities: null, as JSON.stringify has it.
func floating[T float32 | float64](bits int) appendValue {
	return func(dst []byte, column arrow.Array, row int) ([]byte, error) {
		v := float64(column.(arrayOf[T]).Value(row))
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return append(dst, "null"...), nil
		}
		format := byte('f')
		if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
			format = 'e'
		}
		return strconv.AppendFloat(dst, v, format, -1, bits), nil
	}
}
