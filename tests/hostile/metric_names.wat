;; Attack: forge metrics by a task's name, which is a label of some of them.
(component
  (core module $m (func (export "attack")))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
