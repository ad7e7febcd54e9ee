package plan

// Limits of a workflow file. Data that outgrows them belongs into the run's
// input, not into the workflow.
const (
	// MaxFileBytes is the largest workflow, expression or globals file.
	MaxFileBytes = 16 << 20
	// MaxIDBytes is the longest step id.
	MaxIDBytes = 255

	// maxDepth bounds nesting, and so every recursion over the file.
	maxDepth = 500
	// maxValues bounds how many values a file holds, aliases expanded.
	maxValues = 1_000_000
	// maxPunctuation bounds the bytes that can delimit YAML tokens, before any
	// are made: the scanner makes all of a flow collection's at once, in some
	// 280 bytes each. A file full of JavaScript stays below it.
	maxPunctuation = 3_000_000
	// maxTokens bounds what the YAML parser is given: parts of it take time that
	// grows with the square.
	maxTokens = 200_000
	// maxBlockKeys bounds one block mapping of YAML: the parser recurses from
	// each key to the next, and copies all that follow.
	maxBlockKeys = 5_000
	// maxExpandedBytes bounds the text of all values, aliases expanded.
	maxExpandedBytes = 4 * MaxFileBytes
)
