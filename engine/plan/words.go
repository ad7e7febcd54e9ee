package plan

import (
	"errors"
	"strings"
)

// SplitWords splits a command line into words as a POSIX shell does: white
// space separates, single quotes keep everything, double quotes keep everything
// but a backslash before " \ $ ` or a line break, a backslash keeps the next
// character. Nothing is expanded: no variables, no globs, no pipes.
func SplitWords(line string) ([]string, error) {
	var (
		words  []string
		word   strings.Builder
		inWord bool
	)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch c {
		case ' ', '\t', '\n', '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a single quote is not closed")
			}
			word.WriteString(line[i+1 : i+1+end])
			i, inWord = i+1+end, true
		case '"':
			rest, n, ok := doubleQuoted(line[i+1:])
			if !ok {
				return nil, errors.New("a double quote is not closed")
			}
			word.WriteString(rest)
			i, inWord = i+n, true
		case '\\':
			if i++; i == len(line) {
				return nil, errors.New("nothing follows the last backslash")
			}
			if line[i] != '\n' {
				word.WriteByte(line[i])
				inWord = true
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// doubleQuoted reads up to the closing quote, and says how many bytes it took,
// that quote included.
func doubleQuoted(s string) (text string, n int, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), i + 1, true
		case s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`\n", s[i+1]) >= 0:
			if i++; s[i] != '\n' {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", 0, false
}

// shellWord finds a word that means something only to a shell.
func shellWord(words []string) string {
	for _, w := range words {
		switch w {
		case "|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1", "2>":
			return w
		}
	}
	return ""
}
