;; Attack: bring more memories than a component may have.
(component
  (core module $m (memory 1) (func (export "attack")))
  (core instance $i (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m))
  (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m))
  (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m))
  (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
