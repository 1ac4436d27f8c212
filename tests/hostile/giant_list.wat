;; Attack: return a list that takes the host 40 times the memory that it takes the task: a byte for each element here,
;; a whole value there.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "attack") (param $length i32) (result i32)
      (drop (memory.grow (i32.add (i32.div_u (local.get $length) (i32.const 65536)) (i32.const 1))))
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (local.get $length))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "attack") (param "length" u32) (result (list bool))
    (canon lift (core func $i "attack") (memory $i "memory"))))
