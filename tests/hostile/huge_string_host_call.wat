;; Attack: keep the worker's thread and memory busy before any limit is asked: report states of a hundred megabytes,
;; which the host reads whole and then refuses, again and again.
(component
  (import "petiole:task/progress@0.1.0" (instance $progress
    (export "update-state" (func (param "state" string) (param "meta" string) (result (result (error string)))))))
  (core module $libc
    (memory (export "memory") 2048)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $update-state (canon lower (func $progress "update-state") (memory $memory) (realloc $realloc)))
  (core module $m
    (import "host" "update-state" (func $update-state (param i32 i32 i32 i32 i32)))
    (func (export "attack")
      (loop $again
        (call $update-state (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 100000000) (i32.const 16))
        (br $again))))
  (core instance $i (instantiate $m
    (with "host" (instance (export "update-state" (func $update-state))))))
  (func (export "attack") (canon lift (core func $i "attack"))))
