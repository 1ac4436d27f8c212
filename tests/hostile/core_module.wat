;; Attack: a core module, which has no types that arguments could be checked against.
(module
  (memory (export "memory") 1)
  (func (export "attack")))
