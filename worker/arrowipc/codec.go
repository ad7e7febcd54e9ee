package arrowipc

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// codec is how the buffers of a batch are compressed.
type codec uint8

const (
	codecNone codec = iota
	codecLZ4        // LZ4 frame
	codecZstd
)

// plainSize, in place of the decoded size, marks a buffer left uncompressed.
const plainSize = -1

// expansion bounds the decoded size by the formats themselves: an LZ4 sequence
// gives 255 bytes for each of its own at most, a ZSTD block of 4 bytes 128 KiB.
func (c codec) expansion(n int64) int64 {
	if c == codecLZ4 {
		return 255*n + 64
	}
	if n > math.MaxInt64>>17 {
		return math.MaxInt64
	}
	return (n/4 + 1) << 17
}

// decode gives the content of one compressed buffer. A buffer that its writer
// left uncompressed is not copied.
func (l *loader) decode(col *column, b []byte, at, need int64) ([]byte, error) {
	if len(b) < 8 {
		return nil, col.errorf(at, "a compressed buffer of %d bytes", len(b))
	}
	size := int64(binary.LittleEndian.Uint64(b))
	b = b[8:]
	switch {
	case size == plainSize:
		return b, nil
	case size < need:
		return nil, col.errorf(at, "a compressed buffer of %d bytes where %d are needed", size, need)
	case size > l.codec.expansion(int64(len(b))):
		return nil, col.errorf(at, "%d compressed bytes that claim to be %d", len(b), size)
	}
	if err := l.spend(size, at); err != nil {
		return nil, err
	}
	out := make([]byte, size)
	if l.codec == codecLZ4 {
		if _, err := io.ReadFull(lz4.NewReader(bytes.NewReader(b)), out); err != nil {
			return nil, col.errorf(at, "LZ4: %v", err)
		}
		return out, nil
	}
	dec, err := l.r.zstdDecoder()
	if err != nil {
		return nil, err
	}
	got, err := dec.DecodeAll(b, out[:0])
	if err != nil {
		return nil, col.errorf(at, "ZSTD: %v", err)
	}
	if int64(len(got)) != size {
		return nil, col.errorf(at, "ZSTD: %d bytes where %d were announced", len(got), size)
	}
	return got, nil
}

func (r *Reader) zstdDecoder() (*zstd.Decoder, error) {
	if r.zstd == nil {
		// Never asked for more than the announced size, and without
		// goroutines, so nothing is left to close.
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, err
		}
		r.zstd = dec
	}
	return r.zstd, nil
}
