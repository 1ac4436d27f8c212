import assert from "node:assert/strict";
import { test } from "node:test";

import { priceCart } from "./pricing.js";

const line = (sku, unitCents, quantity, ...tags) => ({ sku, unitCents, quantity, tags });
const percentOff = (tag, percent) => ({ tag: "percent-off", val: { tag, percent } });
const buyGetFree = (sku, buy, free) => ({ tag: "buy-get-free", val: { sku, buy, free } });
const spendAndSave = (atLeastCents, offCents) => ({ tag: "spend-and-save", val: { atLeastCents, offCents } });

test("without rules a cart costs the sum of its lines", () => {
  assert.deepEqual(priceCart([line("pen", 150, 2), line("ink", 799, 1)], []), {
    subtotalCents: 1099,
    discounts: [],
    totalCents: 1099,
  });
});

test("rules on lines build on each other, and rules on the cart come last", () => {
  const lines = [line("novel", 1000, 3, "book"), line("mug", 500, 1)];
  const rules = [spendAndSave(2000, 300), buyGetFree("novel", 2, 1), percentOff("book", 10)];
  assert.deepEqual(priceCart(lines, rules), {
    subtotalCents: 3500,
    discounts: [
      { sku: "novel", reason: "buy 2, get 1 free", cents: 1000 },
      { sku: "novel", reason: "10 % off book", cents: 200 },
      { sku: undefined, reason: "3.00 off from 20.00", cents: 300 },
    ],
    totalCents: 2000,
  });
});

test("a rule that does not apply takes nothing off", () => {
  const rules = [percentOff("book", 50), buyGetFree("pen", 2, 1), spendAndSave(301, 100)];
  assert.equal(priceCart([line("pen", 150, 2)], rules).totalCents, 300);
});

test("a cart never costs less than nothing", () => {
  const rules = [percentOff("sale", 100), percentOff("sale", 100), spendAndSave(0, 500)];
  assert.equal(priceCart([line("pen", 150, 1, "sale")], rules).totalCents, 0);
});

for (const [name, lines, rules, error] of [
  ["an empty cart", [], [], { tag: "empty-cart" }],
  ["a quantity of 0", [line("pen", 1, 0)], [], { tag: "bad-line", val: "pen: a quantity of 0 is not within 1 and 10000" }],
  ["101 %", [line("pen", 1, 1)], [percentOff("a", 101)], { tag: "bad-rule", val: "percent-off: 101 is not within 1 and 100" }],
  ["buy 0", [line("pen", 1, 1)], [buyGetFree("pen", 0, 1)], { tag: "bad-rule", val: "buy-get-free: buy 0, get 1 free" }],
]) {
  test(`${name} is refused`, () => assert.throws(() => priceCart(lines, rules), (thrown) => {
    assert.deepEqual(thrown, error);
    return true;
  }));
}
