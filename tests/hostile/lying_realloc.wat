;; Attack: let the host write its arguments where there is no memory.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "past") (param i32 i32 i32 i32) (result i32) (i32.const 0x7ffffff0))
    (func (export "misaligned") (param i32 i32 i32 i32) (result i32) (i32.const 17))
    (func (export "attack") (param i32 i32)))
  (core instance $i (instantiate $m))
  (func (export "past") (param "text" string)
    (canon lift (core func $i "attack") (memory $i "memory") (realloc (func $i "past"))))
  (func (export "misaligned") (param "numbers" (list u64))
    (canon lift (core func $i "attack") (memory $i "memory") (realloc (func $i "misaligned")))))
