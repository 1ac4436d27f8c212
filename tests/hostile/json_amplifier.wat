;; Attack: return free-form JSON that takes the host thirty times its text when it is read: "[0,0,0,...,0]".
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "attack") (param $numbers i32) (result i32)
      (local $at i32) (local $end i32)
      (drop (memory.grow (i32.add (i32.div_u (local.get $numbers) (i32.const 32768)) (i32.const 2))))
      (local.set $at (i32.const 65536))
      (local.set $end (i32.add (i32.const 65536) (i32.mul (local.get $numbers) (i32.const 2))))
      (loop $more
        (i32.store16 (local.get $at) (i32.const 0x302c)) ;; ",0"
        (local.set $at (i32.add (local.get $at) (i32.const 2)))
        (br_if $more (i32.lt_u (local.get $at) (local.get $end))))
      (i32.store8 (i32.const 65536) (i32.const 0x5b)) ;; "["
      (i32.store8 (local.get $end) (i32.const 0x5d)) ;; "]"
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.add (i32.mul (local.get $numbers) (i32.const 2)) (i32.const 1)))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (type $json' (record (field "petiole-json" string)))
  (export $json "json" (type $json'))
  (func (export "attack") (param "numbers" u32) (result $json)
    (canon lift (core func $i "attack") (memory $i "memory"))))
