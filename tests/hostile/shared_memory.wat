;; Attack: a memory shared between threads, to build a clock fine enough to spy by.
(component
  (core module $m (memory 1 1 shared) (func (export "attack")))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
