;; Attack: call the host at every depth of a recursion, with nested JSON for it to read, so that it does so at the
;; stack's end.
(component
  (import "petiole:task/progress@0.1.0" (instance $progress
    (export "update-state" (func (param "state" string) (param "meta" string) (result (result (error string)))))))
  (alias export $progress "update-state" (func $update))
  (core module $libc
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $libc (instantiate $libc))
  (core func $update (canon lower (func $update)
    (memory $libc "memory") (realloc (func $libc "realloc"))))
  (core module $m
    (import "libc" "memory" (memory 1))
    (import "host" "update" (func $update (param i32 i32 i32 i32 i32)))
    (data (i32.const 0) "PROGRESS")
    (func $recurse (result i32)
      (call $update (i32.const 0) (i32.const 8) (i32.const 1024) (i32.const 200) (i32.const 16))
      (i32.add (call $recurse) (i32.const 1)))
    ;; a hundred lists in lists
    (func (export "attack") (result i32)
      (memory.fill (i32.const 1024) (i32.const 0x5b) (i32.const 100))
      (memory.fill (i32.const 1124) (i32.const 0x5d) (i32.const 100))
      (call $recurse)))
  (core instance $i (instantiate $m
    (with "libc" (instance $libc)) (with "host" (instance (export "update" (func $update))))))
  (func (export "attack") (result u32) (canon lift (core func $i "attack"))))
