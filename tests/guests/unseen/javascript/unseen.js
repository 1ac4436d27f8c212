// A module that nobody wrote for Petiole: what is in the language. unseen.wasm beside it is built by
//   npx --yes componentize-qjs@0.4.5 --sync --opt-size --wit ../unseen.wit --world unseen --js unseen.js --output unseen.wasm

export function lookAround() {
  const start = Date.now();
  return [
    ["json", JSON.stringify(JSON.parse('{"a": [1, null, "\\u00e9"]}'))],
    ["regular expression", "one two".replace(/(\w+) (\w+)/u, "$2 $1")],
    ["map", String(new Map([["one", 1], ["one", 2]]).get("one"))],
    ["sort", [3, 1, 2].toSorted().join(" ")],
    ["big integer", String(2n ** 64n)],
    ["random", String(Math.random())],
    ["year", String(new Date().getUTCFullYear())],
    ["clock", String(Date.now() >= start)],
    ["fetch", typeof fetch],
    ["require", typeof require],
    ["process", typeof process],
  ];
}

export function giveUp(order) {
  throw new RangeError(`order ${order} has no lines`);
}
