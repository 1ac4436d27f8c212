;; Attack: grow a table until there is no more.
(component
  (core module $m
    (table $t 1 funcref)
    (func (export "attack")
      (loop $more
        (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1))))
      unreachable))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
