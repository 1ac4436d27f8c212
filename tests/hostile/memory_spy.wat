;; Attack: read what the task before left in the sandbox's memory, table and globals. The result is the number of
;; bytes and table elements found that are not zero; then all of it is filled for the next one.
(component
  (core module $m
    (memory 1)
    (table $t 1000 funcref)
    (global $g (mut i32) (i32.const 0))
    (elem declare func $attack)
    (func $attack (export "attack") (result i32)
      (local $at i32) (local $end i32) (local $found i32)
      (drop (memory.grow (i32.const 63)))
      (local.set $end (i32.mul (memory.size) (i32.const 65536)))
      (local.set $found (global.get $g))
      (loop $scan
        (if (i64.ne (i64.load (local.get $at)) (i64.const 0))
          (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
        (i64.store (local.get $at) (i64.const 0x7365637265747321))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $scan (i32.lt_u (local.get $at) (local.get $end))))
      (local.set $at (i32.const 0))
      (loop $slots
        (if (i32.eqz (ref.is_null (table.get $t (local.get $at))))
          (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
        (table.set $t (local.get $at) (ref.func $attack))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $slots (i32.lt_u (local.get $at) (i32.const 1000))))
      (global.set $g (i32.const 1))
      (local.get $found)))
  (core instance $i (instantiate $m))
  (func (export "attack") (result u32) (canon lift (core func $i "attack"))))
