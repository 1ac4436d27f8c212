;; Attack: hit one limit (memory), ignore it, then hit another (time): the reason shown must be the second.
(component
  (core module $m
    (memory 1)
    (func (export "attack")
      (drop (memory.grow (i32.const 60000)))
      (loop $again (br $again))))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
