;; Attack: compute for ever.
(component
  (core module $m
    (func (export "attack") (loop $again (br $again))))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
