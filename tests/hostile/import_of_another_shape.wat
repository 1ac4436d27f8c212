;; Attack: import a function of the worker's by its right name with a wrong type, so that an argument is taken for a
;; pointer.
(component
  (import "petiole:task/log@0.1.0" (instance $log
    (export "log" (func (param "level" u64) (param "message" u64)))))
  (alias export $log "log" (func $line))
  (core func $line (canon lower (func $line)))
  (core module $m
    (import "host" "log" (func $line (param i64 i64)))
    (func (export "attack") (call $line (i64.const -1) (i64.const -1))))
  (core instance $i (instantiate $m (with "host" (instance (export "log" (func $line))))))
  (func (export "attack") (canon lift (core func $i "attack"))))
