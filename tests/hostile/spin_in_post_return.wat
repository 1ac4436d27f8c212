;; Attack: return a result, then compute for ever in the clean-up that the host calls after it.
(component
  (core module $m
    (func (export "attack") (result i32) (i32.const 7))
    (func (export "clean-up") (param i32) (loop $again (br $again))))
  (core instance $i (instantiate $m))
  (func (export "attack") (result u32)
    (canon lift (core func $i "attack") (post-return (func $i "clean-up")))))
