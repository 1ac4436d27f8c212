;; Attack: call oneself until the stack ends.
(component
  (core module $m
    (func $recurse (export "attack") (result i32) (i32.add (call $recurse) (i32.const 1))))
  (core instance $i (instantiate $m))
  (func (export "attack") (result u32) (canon lift (core func $i "attack"))))
