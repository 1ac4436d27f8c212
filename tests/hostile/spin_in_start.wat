;; Attack: compute for ever before the task is even called, in a core module's start function.
(component
  (core module $m
    (func $start (loop $again (br $again)))
    (start $start)
    (func (export "attack")))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
