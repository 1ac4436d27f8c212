;; Attack: keep the worker's thread past every tick, in operations that nothing pauses: fill all of a large memory,
;; again and again.
(component
  (core module $m
    (memory 2048)
    (func (export "attack")
      (loop $again
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x8000000))
        (br $again))))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
