;; A component whose one task returns the environment that it was given.
(component
  (import "wasi:cli/environment@0.2.0" (instance $cli
    (export "get-environment" (func (result (list (tuple string string)))))))
  (core module $memory
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    ;; Never frees, and has no use for the old block: the host asks for new ones only.
    (func (export "realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at
        (i32.and
          (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (global.set $free (i32.add (local.get $at) (local.get $size)))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (core func $get (canon lower (func $cli "get-environment")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core module $main
    (import "host" "get" (func $get (param i32)))
    ;; The list's address and length are written to 0, and that is where the result is read.
    (func (export "environment") (result i32)
      (call $get (i32.const 0))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "host" (instance (export "get" (func $get))))))
  (func (export "environment") (result (list (tuple string string)))
    (canon lift (core func $main "environment") (memory $memory "memory"))))
