;; Attack: a memory with 64-bit addresses, whose size no 32-bit check was made for.
(component
  (core module $m (memory i64 1) (func (export "attack")))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
