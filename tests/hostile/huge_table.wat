;; Attack: ask for a table of 400 million elements before the first instruction.
(component
  (core module $m (table 400000000 funcref) (func (export "attack")))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
