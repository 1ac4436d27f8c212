;; Attack: start with more memory (32 MiB) than the task's limit, but less than the worker's largest.
(component
  (core module $m (memory 512) (func (export "attack")))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
