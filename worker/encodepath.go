package worker

import (
	"fmt"
	"math"
	"reflect"
	"strings"
)

// pathDepth bounds how deep the cause of an encoding error is looked for.
const pathDepth = 1000

// encodeError says where in v the value is that has no JSON form, and what it
// is; err is encoding/json's word for it.
func encodeError(v any, err error) error {
	f := finder{active: make(map[visit]bool)}
	if !f.find(reflect.ValueOf(v), 0) {
		return err
	}
	at := strings.Join(f.path, "")
	if at == "" {
		at = "the value itself"
	} else {
		at = "at " + strings.TrimPrefix(at, ".")
	}
	return fmt.Errorf("cannot be encoded as JSON: %s: %s: %w", at, f.what, err)
}

// finder walks a value the way encoding/json does.
type finder struct {
	path   []string
	what   string
	active map[visit]bool // pointers, maps and slices being walked
}

type visit struct {
	pointer uintptr
	length  int
	typ     reflect.Type
}

// find reports whether v, or something in it, cannot be encoded; path and what
// say then which.
func (f *finder) find(v reflect.Value, depth int) bool {
	if !v.IsValid() {
		return false
	}
	t := v.Type()
	if encodesItself(t) {
		return f.findSelf(v)
	}
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		if x := v.Float(); math.IsNaN(x) || math.IsInf(x, 0) {
			return f.found("%v has no JSON form", x)
		}
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return f.found("a Go %s has no JSON form", t)
	case reflect.Interface:
		return f.find(v.Elem(), depth)
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if v.IsNil() {
			return false
		}
		here := visit{pointer: v.Pointer(), typ: t}
		if v.Kind() == reflect.Slice {
			here.length = v.Len()
		}
		if f.active[here] || depth > pathDepth {
			return f.found("a %s that contains itself", t)
		}
		f.active[here] = true
		defer delete(f.active, here)
		return f.inside(v, depth+1)
	case reflect.Array, reflect.Struct:
		return f.inside(v, depth+1)
	}
	return false
}

func (f *finder) inside(v reflect.Value, depth int) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return f.find(v.Elem(), depth)
	case reflect.Map:
		key := v.Type().Key()
		switch kind := key.Kind(); {
		case kind == reflect.String, kind >= reflect.Int && kind <= reflect.Uintptr, key.Implements(textMarshaler):
		default:
			return f.found("a map with keys of type %s", key)
		}
		for _, k := range v.MapKeys() {
			if f.step(v.MapIndex(k), fmt.Sprintf(".%v", k), depth) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if f.step(v.Index(i), fmt.Sprintf("[%d]", i), depth) {
				return true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			switch {
			case field.Tag.Get("json") == "-", !field.IsExported() && !field.Anonymous:
				continue
			case name == "":
				name = field.Name
			}
			if f.step(v.Field(i), "."+name, depth) {
				return true
			}
		}
	}
	return false
}

func (f *finder) step(v reflect.Value, name string, depth int) bool {
	f.path = append(f.path, name)
	if f.find(v, depth) {
		return true
	}
	f.path = f.path[:len(f.path)-1]
	return false
}

// findSelf asks a value that encodes itself.
func (f *finder) findSelf(v reflect.Value) bool {
	if v.Kind() == reflect.Pointer && v.IsNil() || !v.CanInterface() {
		return false
	}
	var err error
	switch m := v.Interface().(type) {
	case interface{ MarshalJSON() ([]byte, error) }:
		_, err = m.MarshalJSON()
	case interface{ MarshalText() ([]byte, error) }:
		_, err = m.MarshalText()
	}
	if err == nil {
		return false
	}
	return f.found("the encoding method of %s failed: %v", v.Type(), err)
}

func (f *finder) found(format string, args ...any) bool {
	f.what = fmt.Sprintf(format, args...)
	return true
}
