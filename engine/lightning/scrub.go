package lightning

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// scrubbed stands where a secret was.
const scrubbed = "***"

// minSecret is the shortest value that counts as a secret: hiding every "a" of a
// log would hide the log.
const minSecret = 4

// publicKeys are the keys of credentials whose values are no secrets, in lower
// case and without underscores: they name a service or a person, and logs
// without them could not be read.
var publicKeys = map[string]bool{
	"username": true, "user": true, "email": true, "login": true, "host": true, "hosturl": true, "baseurl": true,
	"url": true, "loginurl": true, "instanceurl": true, "apiversion": true, "database": true, "port": true,
	"account": true, "accounttype": true, "ssl": true, "scope": true, "tokentype": true, "tls": true,
	"projectid": true, "collectionsendpoint": true,
}

// scrubber removes the values of a run's credentials from texts. Its methods
// are safe for concurrent use.
type scrubber struct {
	mu       sync.Mutex
	secrets  []string
	replacer atomic.Pointer[strings.Replacer]
}

// addCredential takes the values of a credential's JSON for secrets, at any
// depth. Names and passwords that stand beside each other are also looked for
// as they stand in a header of basic authentication.
func (s *scrubber) addCredential(text json.RawMessage) {
	var value any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&value) != nil {
		return
	}
	var found []string
	collect("", value, &found)
	s.add(found...)
}

func collect(key string, value any, found *[]string) {
	switch v := value.(type) {
	case string:
		if !publicKeys[strings.ReplaceAll(strings.ToLower(key), "_", "")] {
			*found = append(*found, v)
		}
	case json.Number:
		if !publicKeys[strings.ReplaceAll(strings.ToLower(key), "_", "")] {
			*found = append(*found, v.String())
		}
	case []any:
		for _, item := range v {
			collect(key, item, found)
		}
	case map[string]any:
		for k, item := range v {
			collect(k, item, found)
		}
		name, _ := v["username"].(string)
		if password, ok := v["password"].(string); ok && name != "" {
			*found = append(*found, base64.StdEncoding.EncodeToString([]byte(name+":"+password)))
		}
	}
}

// add takes texts for secrets, as they are and as they stand in JSON.
func (s *scrubber) add(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.secrets)
	for _, secret := range secrets {
		if len(secret) < minSecret {
			continue
		}
		for _, form := range []string{secret, escaped(secret)} {
			if !slices.Contains(s.secrets, form) {
				s.secrets = append(s.secrets, form)
			}
		}
	}
	if len(s.secrets) == before {
		return
	}
	// The longest first: one secret may be the beginning of another.
	slices.SortFunc(s.secrets, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(s.secrets))
	for _, secret := range s.secrets {
		pairs = append(pairs, secret, scrubbed)
	}
	s.replacer.Store(strings.NewReplacer(pairs...))
}

// escaped is a text as it stands in JSON, without its quotes.
func escaped(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return s
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(b.String()), `"`), `"`)
}

// text returns s without secrets.
func (s *scrubber) text(text string) string {
	r := s.replacer.Load()
	if r == nil {
		return text
	}
	return r.Replace(text)
}

// json returns a JSON value without secrets: still JSON, also where a number was
// one.
func (s *scrubber) json(text string) string {
	clean := s.text(text)
	if clean == text || json.Valid([]byte(clean)) {
		return clean
	}
	var value any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if d.Decode(&value) != nil {
		return `"` + scrubbed + `"`
	}
	b, err := json.Marshal(s.value(value))
	if err != nil {
		return `"` + scrubbed + `"`
	}
	return string(b)
}

func (s *scrubber) value(value any) any {
	switch v := value.(type) {
	case string:
		return s.text(v)
	case json.Number:
		if clean := s.text(v.String()); clean != v.String() {
			return clean
		}
	case []any:
		for i := range v {
			v[i] = s.value(v[i])
		}
	case map[string]any:
		clean := make(map[string]any, len(v))
		for k, item := range v {
			clean[s.text(k)] = s.value(item)
		}
		return clean
	}
	return value
}
