;; Attack: take another module's task over, by giving one's own its name in the manifest.
(component
  (core module $m (func (export "attack") (param i64 i64) (result i64) (i64.const 666)))
  (core instance $i (instantiate $m))
  (func (export "attack") (param "x" s64) (param "y" s64) (result s64) (canon lift (core func $i "attack"))))
