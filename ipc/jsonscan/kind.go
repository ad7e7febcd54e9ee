package jsonscan

import "fmt"

// Kind is what sort of JSON value something is.
type Kind uint8

const (
	Object Kind = iota + 1
	Array
	String
	Number
	True
	False
	Null
)

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

const (
	// DefaultMaxDepth is how deep arrays and objects may nest where Options
	// does not say.
	DefaultMaxDepth = 10_000
	// DefaultMaxMembers is how many members an object may have where they are
	// collected and Options does not say.
	DefaultMaxMembers = 1 << 20
	// DefaultMaxText is how many bytes a key or a scalar may have where it is
	// held in memory and Options does not say.
	DefaultMaxText = 16 << 20
	// DefaultWindow is the size in bytes of the buffer through which a reader
	// is read where Options does not say.
	DefaultWindow = 256 << 10
)

// Options bound what a scan may use. Zero or less means the default.
type Options struct {
	MaxDepth   int   // arrays and objects inside each other
	MaxMembers int   // members collected of one object, duplicates included
	MaxText    int64 // bytes of a key or of a scalar's text
	Window     int   // bytes; unused where the document is in memory

	// Check, unless nil, is called before each window is scanned; its error
	// ends the scan. It is how a long scan is cancelled.
	Check func() error
	// Stats, unless nil, is added to. It is not synchronised.
	Stats *Stats
}

// Stats counts what scans have cost.
type Stats struct {
	Scanned int64 // bytes that went through the state machine
	Read    int64 // bytes read from an io.ReaderAt; 0 where it is memory
}

func orDefault[T int | int64](n, standard T) T {
	if n <= 0 {
		return standard
	}
	return n
}

func (o Options) withDefaults() Options {
	o.MaxDepth = orDefault(o.MaxDepth, DefaultMaxDepth)
	o.MaxMembers = orDefault(o.MaxMembers, DefaultMaxMembers)
	o.MaxText = orDefault(o.MaxText, DefaultMaxText)
	o.Window = orDefault(o.Window, DefaultWindow)
	if o.Stats == nil {
		o.Stats = new(Stats)
	}
	return o
}
