;; Attack: return a string of so many bytes.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "attack") (param $bytes i32) (result i32)
      (drop (memory.grow (i32.add (i32.div_u (local.get $bytes) (i32.const 65536)) (i32.const 1))))
      (memory.fill (i32.const 65536) (i32.const 0x78) (local.get $bytes))
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (local.get $bytes))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "attack") (param "bytes" u32) (result string)
    (canon lift (core func $i "attack") (memory $i "memory"))))
