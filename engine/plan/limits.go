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
	// maxTokens bounds what the YAML parser is given: it keeps several hundred
	// bytes for each token. A value is rarely more than three of them.
	maxTokens = 1_000_000
	// maxExpandedBytes bounds the text of all values, aliases expanded.
	maxExpandedBytes = 4 * MaxFileBytes
)
