// Run in the fresh runtime of a condition that could reach what is bounded
// here. See guard.go.
(function (maxLength, maxString, validate) {
  'use strict'
  const { apply, construct, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect
  const text = String
  const TypeError = globalThis.TypeError

  // wrap runs check with this and the arguments, which it may change, before
  // a built-in function.
  const wrap = (holder, name, check) => {
    const property = getOwnPropertyDescriptor(holder, name)
    if (!property || typeof property.value !== 'function') return
    const original = property.value
    property.value = {
      call(...args) {
        check(this, args)
        return apply(original, this, args)
      },
    }.call
    defineProperty(holder, name, property)
  }

  // No code from strings.
  const Denied = EvalError
  const refuse = function Function() {
    throw new Denied('Code generation from strings disallowed for this context')
  }
  refuse.prototype = Function.prototype
  for (const made of [function () {}, async function () {}, function* () {}]) {
    defineProperty(getPrototypeOf(made), 'constructor', { value: refuse })
  }
  globalThis.Function = refuse
  globalThis.eval = () => refuse()

  // No long work, and no large result, in one step that cannot be interrupted.
  const RangeError = globalThis.RangeError
  const bound = (list) => {
    if (list !== null && typeof list === 'object' && list.length > maxLength) throw new RangeError('Invalid array length')
  }
  for (const name of ownKeys(Array.prototype)) {
    if (name !== 'constructor') wrap(Array.prototype, name, bound)
  }
  wrap(Array, 'from', (self, args) => bound(args[0]))
  wrap(Reflect, 'apply', (self, args) => bound(args[2]))
  wrap(Reflect, 'construct', (self, args) => bound(args[1]))
  wrap(refuse.prototype, 'apply', (self, args) => bound(args[1]))
  const sized = (args) => {
    if (args.length === 1 && args[0] > maxLength) throw new RangeError('Invalid array length')
  }
  const Original = Array
  const bounded = function Array(...args) {
    sized(args)
    return construct(Original, args, new.target || bounded)
  }
  for (const name of ownKeys(Original)) defineProperty(bounded, name, getOwnPropertyDescriptor(Original, name))
  Array.prototype.constructor = bounded
  globalThis.Array = bounded

  const fits = (size) => {
    if (size > maxString) throw new RangeError('Invalid string length')
  }
  wrap(String.prototype, 'repeat', (self, args) => fits((args[0] = +args[0]) * text(self).length))
  wrap(String.prototype, 'padStart', (self, args) => fits((args[0] = +args[0])))
  wrap(String.prototype, 'padEnd', (self, args) => fits((args[0] = +args[0])))

  // The parser recurses.
  const Malformed = SyntaxError
  wrap(JSON, 'parse', (self, args) => {
    const problem = validate((args[0] = text(args[0])))
    if (problem) throw new Malformed(problem)
  })

  // A replacer is JavaScript, which can be interrupted at every value.
  const isFunction = (f) => typeof f === 'function'
  const isList = Original.isArray
  wrap(JSON, 'stringify', (self, args) => {
    if (isList(args[1])) throw new TypeError('A list as the replacer is not supported in a condition')
    if (!isFunction(args[1])) args[1] = (key, value) => value
  })

  // Memory by the gigabyte, and numbers as long.
  const g = globalThis
  delete g.ArrayBuffer; delete g.SharedArrayBuffer; delete g.DataView; delete g.BigInt
  delete g.Int8Array; delete g.Uint8Array; delete g.Uint8ClampedArray; delete g.Int16Array; delete g.Uint16Array
  delete g.Int32Array; delete g.Uint32Array; delete g.Float16Array; delete g.Float32Array; delete g.Float64Array
  delete g.BigInt64Array; delete g.BigUint64Array

  const silent = () => {}
  globalThis.console = { log: silent, info: silent, warn: silent, error: silent, debug: silent, trace: silent }
})
