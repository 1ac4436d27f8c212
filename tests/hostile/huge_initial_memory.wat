;; Attack: ask for 4 GiB of memory before the first instruction.
(component
  (core module $m (memory 65536) (func (export "attack")))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
