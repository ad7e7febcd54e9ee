package lightning

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maskedConfiguration stands for each value of a configuration in a log line.
const maskedConfiguration = `"****"`

// sanitize applies OpenFn's policies for logs to the arguments of a log call:
// remove, obfuscate or summarize objects and arrays; with any other policy, mask
// what stands under "configuration".
func sanitize(policy string, args []json.RawMessage) []json.RawMessage {
	for i, arg := range args {
		args[i] = sanitizeValue(policy, arg)
	}
	return args
}

func sanitizeValue(policy string, value json.RawMessage) json.RawMessage {
	if len(value) == 0 || value[0] != '{' && value[0] != '[' {
		return value
	}
	isArray := value[0] == '['
	switch policy {
	case "remove":
		return json.RawMessage("null")
	case "obfuscate":
		if isArray {
			return json.RawMessage(`"[array]"`)
		}
		return json.RawMessage(`"[object]"`)
	case "summarize":
		return quote(summary(value, isArray))
	}
	if isArray || !strings.Contains(string(value), `"configuration"`) {
		return value
	}
	return maskConfiguration(value)
}

func summary(value json.RawMessage, isArray bool) string {
	if isArray {
		var items []json.RawMessage
		if json.Unmarshal(value, &items) != nil || len(items) == 0 {
			return "(empty array)"
		}
		return fmt.Sprintf("(array with %d items)", len(items))
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil || len(members) == 0 {
		return "(empty object)"
	}
	return fmt.Sprintf("(object with keys %s)", strings.Join(slices.Sorted(maps.Keys(members)), ", "))
}

func maskConfiguration(value json.RawMessage) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return value
	}
	var configuration map[string]json.RawMessage
	if json.Unmarshal(members["configuration"], &configuration) != nil || configuration == nil {
		return value
	}
	for key := range configuration {
		configuration[key] = json.RawMessage(maskedConfiguration)
	}
	members["configuration"] = encode(configuration)
	return encode(members)
}

func quote(s string) json.RawMessage { return encode(s) }

// encode is for values that always have a JSON form.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

type member struct {
	key   string
	value json.RawMessage
}

// membersOf returns the members of an object that this package encoded, in order.
func membersOf(object json.RawMessage) []member {
	d := json.NewDecoder(bytes.NewReader(object))
	var all []member
	if _, err := d.Token(); err != nil {
		panic(err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			panic(err)
		}
		m := member{key: key.(string)} // what an object's members begin with
		if err := d.Decode(&m.value); err != nil {
			panic(err)
		}
		all = append(all, m)
	}
	return all
}
