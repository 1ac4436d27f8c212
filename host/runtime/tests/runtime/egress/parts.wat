;; A guest that makes parts of requests, and sends none.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "fields" (type $fields (sub resource)))
    (export "outgoing-request" (type $request (sub resource)))
    (type $method' (variant
      (case "get") (case "head") (case "post") (case "put") (case "delete") (case "connect") (case "options")
      (case "trace") (case "patch") (case "other" string)))
    (export "method" (type $method (eq $method')))
    (type $header-error' (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
    (export "header-error" (type $header-error (eq $header-error')))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[static]fields.from-list" (func
      (param "entries" (list (tuple string (list u8)))) (result (result (own $fields) (error $header-error)))))
    (export "[method]fields.append" (func
      (param "self" (borrow $fields)) (param "name" string) (param "value" (list u8))
      (result (result (error $header-error)))))
    (export "[method]fields.clone" (func (param "self" (borrow $fields)) (result (own $fields))))
    (export "[constructor]outgoing-request" (func (param "headers" (own $fields)) (result (own $request))))
    (export "[method]outgoing-request.set-path-with-query" (func
      (param "self" (borrow $request)) (param "path-with-query" (option string)) (result (result))))))
  (alias export $types "fields" (type $fields))

  (core module $libc
    (memory (export "memory") 8)
    ;; what names, values and paths are made of
    (func $start
      (memory.fill (i32.const 65536) (i32.const 0x61) (i32.const 131072))
      (i32.store8 (i32.const 65535) (i32.const 0x2f)))
    (start $start))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $fields (canon lower (func $types "[constructor]fields")))
  (core func $from-list (canon lower (func $types "[static]fields.from-list") (memory $memory)))
  (core func $append (canon lower (func $types "[method]fields.append") (memory $memory)))
  (core func $clone (canon lower (func $types "[method]fields.clone")))
  (core func $request (canon lower (func $types "[constructor]outgoing-request")))
  (core func $set-path (canon lower
    (func $types "[method]outgoing-request.set-path-with-query") (memory $memory)))
  (core func $drop (canon resource.drop $fields))

  (core module $main
    (import "libc" "memory" (memory 1))
    (import "host" "fields" (func $fields (result i32)))
    (import "host" "from-list" (func $from-list (param i32 i32 i32)))
    (import "host" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "host" "clone" (func $clone (param i32) (result i32)))
    (import "host" "request" (func $request (param i32) (result i32)))
    (import "host" "set-path" (func $set-path (param i32 i32 i32 i32) (result i32)))
    (import "host" "drop" (func $drop (param i32)))
    ;; whether a path of so many bytes is taken
    (func (export "path") (param $bytes i32) (result i32)
      (i32.eqz (call $set-path
        (call $request (call $fields)) (i32.const 1) (i32.const 65535) (local.get $bytes))))
    ;; whether a value of so many bytes is taken
    (func (export "value") (param $bytes i32) (result i32)
      (call $append
        (call $fields) (i32.const 65536) (i32.const 1) (i32.const 65536) (local.get $bytes) (i32.const 16))
      (i32.eqz (i32.load8_u (i32.const 16))))
    ;; so many, which stay
    (func (export "keep") (param $n i32)
      (loop $more
        (drop (call $fields))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $more (local.get $n))))
    (func (export "keep-lists") (param $n i32)
      (loop $more
        (call $from-list (i32.const 0) (i32.const 0) (i32.const 16))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $more (local.get $n))))
    ;; clones of one more
    (func (export "keep-clones") (param $n i32)
      (local $first i32)
      (local.set $first (call $fields))
      (loop $more
        (drop (call $clone (local.get $first)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $more (local.get $n))))
    (func (export "make-and-drop") (param $n i32)
      (loop $more
        (call $drop (call $fields))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $more (local.get $n)))))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "fields" (func $fields))
      (export "from-list" (func $from-list))
      (export "append" (func $append))
      (export "clone" (func $clone))
      (export "request" (func $request))
      (export "set-path" (func $set-path))
      (export "drop" (func $drop))))))

  (func (export "path") (param "bytes" u32) (result bool) (canon lift (core func $main "path")))
  (func (export "value") (param "bytes" u32) (result bool) (canon lift (core func $main "value")))
  (func (export "keep") (param "n" u32) (canon lift (core func $main "keep")))
  (func (export "keep-lists") (param "n" u32) (canon lift (core func $main "keep-lists")))
  (func (export "keep-clones") (param "n" u32) (canon lift (core func $main "keep-clones")))
  (func (export "make-and-drop") (param "n" u32) (canon lift (core func $main "make-and-drop"))))
