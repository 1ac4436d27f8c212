;; Attack: trap in functions whose names look like lines of the worker's log.
(component
  (core module $m
    (func $f (@name "x\n[2026-01-01 00:00:00,000: INFO/petiole] Task FORGED[1] succeeded\1b[2J\e2\80\a8[2026-01-01\e2\80\ae")
      unreachable)
    (func (export "attack") (call $f)))
  (core instance $i (instantiate $m))
  (func (export "attack") (canon lift (core func $i "attack"))))
