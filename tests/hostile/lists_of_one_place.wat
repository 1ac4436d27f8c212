;; Attack: return a list of lists that all lie in the same place: a few bytes here, their square in the result.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "attack") (param $length i32) (result i32)
      (local $at i32) (local $end i32)
      (drop (memory.grow (i32.add (i32.div_u (local.get $length) (i32.const 4096)) (i32.const 1))))
      (local.set $at (i32.const 65536))
      (local.set $end (i32.add (i32.const 65536) (i32.mul (local.get $length) (i32.const 8))))
      (loop $more
        (i32.store (local.get $at) (i32.const 0))
        (i32.store offset=4 (local.get $at) (i32.const 65536))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $more (i32.lt_u (local.get $at) (local.get $end))))
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (local.get $length))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "attack") (param "length" u32) (result (list (list u8)))
    (canon lift (core func $i "attack") (memory $i "memory"))))
