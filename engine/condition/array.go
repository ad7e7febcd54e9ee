package condition

import (
	"math"

	"github.com/dop251/goja"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// array is a lazy JavaScript array. Once the condition changes it, its
// elements are listed; they themselves stay lazy.
type array struct {
	view     *view
	elements *jsonscan.Elements
	kept     map[int]goja.Value // objects and arrays built, for their identity
	items    []goja.Value
	listed   bool
}

func (a *array) Len() int {
	if a.listed {
		return len(a.items)
	}
	a.view.enter()
	defer a.view.leave()
	n, err := a.elements.Len()
	a.view.must(err)
	return int(min(n, math.MaxInt))
}

func (a *array) Get(i int) goja.Value {
	if a.listed {
		if i < 0 || i >= len(a.items) {
			return nil
		}
		return a.items[i]
	}
	if value, ok := a.kept[i]; ok {
		return value
	}
	a.view.enter()
	defer a.view.leave()
	return a.element(i)
}

func (a *array) element(i int) goja.Value {
	value, ok, err := a.elements.At(int64(i))
	a.view.must(err)
	if !ok {
		return nil
	}
	built := a.view.build(value)
	if _, isObject := built.(*goja.Object); isObject {
		if a.kept == nil || len(a.kept) >= maxCached && !a.view.changed {
			a.kept = map[int]goja.Value{}
		}
		a.kept[i] = built
	}
	return built
}

// list prepares for a change.
func (a *array) list() {
	a.view.changed = true
	if a.listed {
		return
	}
	n := a.Len()
	a.bound(n)
	a.view.enter()
	defer a.view.leave()
	items := make([]goja.Value, n)
	for i := range items {
		value, ok := a.kept[i]
		if !ok {
			value = a.element(i)
		}
		items[i] = value
	}
	a.items, a.listed = items, true
}

func (a *array) bound(n int) {
	if n > a.view.limits.Items {
		a.view.giveUp(&limitError{"elements of a changed array", int64(n), int64(a.view.limits.Items)})
	}
}

func (a *array) Set(i int, value goja.Value) bool {
	if i < 0 {
		return false
	}
	a.list()
	if i >= len(a.items) {
		a.grow(i + 1)
	}
	a.items[i] = value
	return true
}

func (a *array) SetLen(n int) bool {
	if n < 0 {
		return false
	}
	a.list()
	if n > len(a.items) {
		a.grow(n)
	}
	clear(a.items[n:])
	a.items = a.items[:n]
	return true
}

func (a *array) grow(n int) {
	a.bound(n)
	for len(a.items) < n {
		a.items = append(a.items, goja.Undefined())
	}
}
