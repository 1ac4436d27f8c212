;; Attack: import what no worker offers.
(component
  (import "host:shell/commands@1.0.0" (instance $shell (export "run" (func (param "command" string)))))
  (core module $m (func (export "attack")))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
