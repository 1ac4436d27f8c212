;; Attack: keep each of four memories below the limit, and go over it with all of them together.
(component
  (core module $m
    (memory 1)
    (func (export "grow")
      (if (i32.eq (memory.grow (i32.const 95)) (i32.const -1)) (then unreachable))))
  (core instance $a (instantiate $m))
  (core instance $b (instantiate $m))
  (core instance $c (instantiate $m))
  (core instance $d (instantiate $m))
  (core module $all
    (import "a" "grow" (func $a)) (import "b" "grow" (func $b))
    (import "c" "grow" (func $c)) (import "d" "grow" (func $d))
    (func (export "attack") (call $a) (call $b) (call $c) (call $d)))
  (core instance $i (instantiate $all
    (with "a" (instance $a)) (with "b" (instance $b)) (with "c" (instance $c)) (with "d" (instance $d))))
  (func (export "attack") (canon lift (core func $i "attack"))))
