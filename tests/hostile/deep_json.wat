;; Attack: return free-form JSON that is nested as deep as it is long: "[[[[[...", which a recursive reader dies of.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "attack") (param $depth i32) (result i32)
      (drop (memory.grow (i32.add (i32.div_u (local.get $depth) (i32.const 32768)) (i32.const 2))))
      (memory.fill (i32.const 65536) (i32.const 0x5b) (local.get $depth))
      (memory.fill (i32.add (i32.const 65536) (local.get $depth)) (i32.const 0x5d) (local.get $depth))
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.mul (local.get $depth) (i32.const 2)))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (type $json' (record (field "petiole-json" string)))
  (export $json "json" (type $json'))
  (func (export "attack") (param "depth" u32) (result $json)
    (canon lift (core func $i "attack") (memory $i "memory"))))
