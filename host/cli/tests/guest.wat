;; A component with three tasks, written by hand so that the tests need no other toolchain.
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 1024) "n is odd")
    (func (export "add") (param i64 i64) (result i64)
      (i64.add (local.get 0) (local.get 1)))
    ;; result<s64, string> is returned in memory: discriminant at 0, payload at 8
    (func (export "halve") (param $n i64) (result i32)
      (if (i64.eqz (i64.and (local.get $n) (i64.const 1)))
        (then
          (i32.store8 (i32.const 0) (i32.const 0))
          (i64.store (i32.const 8) (i64.div_s (local.get $n) (i64.const 2))))
        (else
          (i32.store8 (i32.const 0) (i32.const 1))
          (i32.store (i32.const 8) (i32.const 1024))
          (i32.store (i32.const 12) (i32.const 8))))
      (i32.const 0))
    (func (export "spin") (loop (br 0))))
  (core instance $i (instantiate $m))
  (func (export "add") (param "x" s64) (param "y" s64) (result s64)
    (canon lift (core func $i "add")))
  (func (export "halve-it") (param "n" s64) (result (result s64 (error string)))
    (canon lift (core func $i "halve") (memory $i "memory")))
  (func (export "spin")
    (canon lift (core func $i "spin"))))
