// Package arrowipc reads Arrow record batches straight over a byte slice, as a
// mapped shared block is one, without copying a byte of column data.
//
// Arrow's own reader (arrow/ipc) copies every buffer to the heap. [Reader]
// decodes the metadata only and builds the arrays over sub-slices of the given
// bytes: opening a stream and taking a record costs a few allocations for each
// column and does not depend on the number of rows. It reads the IPC stream
// format and the IPC file format, and every type that arrow v17 knows. Steps
// call it through package worker; it needs nothing of this project.
//
// # Writing
//
// There is no writer here, because arrow's is good enough: give ipc.NewWriter
// the block writer itself, and close the ipc.Writer before committing the
// block. It makes each buffer once and hands it to Write, uncompressed unless
// told otherwise, at multiples of 8 bytes from the start of the stream. Blocks
// start at least that aligned, so readers copy nothing.
//
// Four faults of v17's writer are worth knowing, since readers refuse or
// misread what it writes then: slices of large lists and of list views; a
// dictionary of views beside other columns of views; a dense union with type
// code 127. Copy such slices to whole arrays before writing them.
//
// # What is copied
//
// [Reader.Copied] counts the bytes. It stays 0 except for:
//
//   - buffers of compressed batches (LZ4 frame, ZSTD), which are decoded;
//   - buffers whose values are not aligned in memory as arrow's arrays need it,
//     which happens when the stream itself starts at an odd address;
//   - dictionaries with delta batches, which are concatenated.
//
// Schema metadata is always copied, and not counted. The copies of one record
// are bounded by [WithCopyLimit], so that a small hostile stream cannot ask for
// the host's memory.
//
// # Trust
//
// The bytes are untrusted and may even change while they are read. Every
// number in the metadata is loaded once, checked without overflow, then used.
// After [Reader.At] or [Reader.Next] gave a record:
//
//   - each buffer lies inside the given bytes and is long enough for the
//     length of its array;
//   - null counts lie within lengths, columns are as long as their record;
//   - of offsets, the first and the last are in range; children are as long as
//     their parents need.
//
// Not checked by default is what costs a pass over the rows: offsets in the
// middle, views, dictionary indices, union type codes and offsets, run ends in
// the middle, bitmaps against null counts, UTF-8. Arrow's arrays index Go
// slices and strings with all of them, and the runtime checks each index, so a
// wrong one panics in the accessor and reads nothing outside the buffer: v17
// uses unsafe only to reinterpret whole buffers, whose lengths were checked,
// and for inline views, where the runtime refuses a negative length.
// One case is worse than a panic: a list with a wrong offset in its middle can
// claim 2^31 values, and arrow makes room for them when it formats that row
// (String, ValueStr, MarshalJSON), which can exhaust the memory.
//
// [WithFullValidation] does make that pass, at some GB/s. Use it before
// formatting rows of a writer that is not trusted, or giving its records to
// code that is not bounds-checked (the C data interface, assembly kernels of
// arrow/compute) or that must not panic. It protects against bytes that were
// wrong when they were read; against a writer that changes them afterwards only
// a copy does. Values are not judged (dates out of range, digits beyond a
// decimal's precision).
//
// # Limits
//
// Metadata of one message: [MaxMetadata]. Nesting: [MaxDepth]. Arrays without
// any bytes of their own (null columns, empty structs): 2^31-1 rows. Decimals'
// scale: between -76 and 76. Big-endian data, metadata older than V4 (Arrow
// 0.8), tensors, and unions with a validity bitmap (before Arrow 1.0) are
// errors.
//
// Dictionaries may be replaced within a stream: a record sees those that came
// before it. In a file, where batches have no order, a record sees all of them.
// A file is read by its footer, so one that was cut short is an error.
//
// # Caveats
//
// Arrays alias the given bytes. They are valid as long as these are: reading
// an array after its segment was unmapped kills the process, and Retain on a
// record does not keep a mapping alive. Copy what must live longer.
//
// A mapping of another process's segment is read-only memory. Arrow's arrays
// hand out slices of it (Int64Values, ValueBytes): writing to one kills the
// process.
package arrowipc
