;; A guest that stays on its thread: one operation takes many ticks, and nothing pauses it.
(component
  (import "petiole:task/progress@0.1.0" (instance $progress
    (export "update-state" (func (param "state" string) (param "meta" string) (result (result (error string)))))))

  (core module $libc
    (memory (export "memory") 1)
    ;; for the host's answer, a sentence
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $update-state (canon lower (func $progress "update-state") (memory $memory) (realloc $realloc)))

  (core module $main
    (import "libc" "memory" (memory 1))
    (import "host" "update-state" (func $update-state (param i32 i32 i32 i32 i32)))
    (func $grow (param $bytes i32)
      (if (i32.eq (memory.grow (i32.div_u (local.get $bytes) (i32.const 65536))) (i32.const -1))
        (then unreachable)))
    (func (export "fill") (param $bytes i32) (param $times i32)
      (call $grow (local.get $bytes))
      (loop $more
        (memory.fill (i32.const 65536) (i32.const 1) (local.get $bytes))
        (local.set $times (i32.sub (local.get $times) (i32.const 1)))
        (br_if $more (local.get $times))))
    ;; a state that is refused for its size, once it is read
    (func (export "report") (param $bytes i32) (param $times i32)
      (call $grow (local.get $bytes))
      (loop $more
        (call $update-state
          (i32.const 0) (i32.const 0) (i32.const 65536) (local.get $bytes) (i32.const 16))
        (local.set $times (i32.sub (local.get $times) (i32.const 1)))
        (br_if $more (local.get $times)))))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance (export "update-state" (func $update-state))))))

  (func (export "fill") (param "bytes" u32) (param "times" u32) (canon lift (core func $main "fill")))
  (func (export "report") (param "bytes" u32) (param "times" u32) (canon lift (core func $main "report"))))
