// A WIT variant is {tag, val} here, an option is the value or undefined, integers of any width are
// numbers; a thrown value of the error type is the `err` of the result.

const MAX_QUANTITY = 10_000; // keeps every sum below 2^53

export function priceCart(lines, rules) {
  if (lines.length === 0) throw { tag: "empty-cart" };
  lines.forEach(checkLine);
  rules.forEach(checkRule);

  const left = lines.map((line) => line.unitCents * line.quantity);
  const subtotal = sum(left);
  const discounts = [];
  const take = (cents, sku, reason) => {
    if (cents > 0) discounts.push({ sku, reason, cents });
  };

  for (const rule of rules) {
    lines.forEach((line, i) => {
      const off = Math.min(left[i], lineDiscount(rule, line, left[i]));
      left[i] -= off;
      take(off, line.sku, describe(rule));
    });
  }
  let total = sum(left);
  for (const rule of rules) {
    const off = Math.min(total, cartDiscount(rule, total));
    total -= off;
    take(off, undefined, describe(rule));
  }
  return { subtotalCents: subtotal, discounts, totalCents: total };
}

function lineDiscount({ tag, val }, line, left) {
  switch (tag) {
    case "percent-off":
      return line.tags.includes(val.tag) ? Math.round((left * val.percent) / 100) : 0;
    case "buy-get-free":
      if (line.sku !== val.sku) return 0;
      return Math.round((left * Math.floor(line.quantity / (val.buy + val.free)) * val.free) / line.quantity);
    default:
      return 0;
  }
}

function cartDiscount({ tag, val }, total) {
  return tag === "spend-and-save" && total >= val.atLeastCents ? val.offCents : 0;
}

function checkLine({ sku, quantity }) {
  if (quantity < 1 || quantity > MAX_QUANTITY) {
    throw { tag: "bad-line", val: `${sku}: a quantity of ${quantity} is not within 1 and ${MAX_QUANTITY}` };
  }
}

function checkRule({ tag, val }) {
  if (tag === "percent-off" && (val.percent < 1 || val.percent > 100)) {
    throw { tag: "bad-rule", val: `percent-off: ${val.percent} is not within 1 and 100` };
  }
  if (tag === "buy-get-free" && (val.buy < 1 || val.free < 1)) {
    throw { tag: "bad-rule", val: `buy-get-free: buy ${val.buy}, get ${val.free} free` };
  }
}

function describe({ tag, val }) {
  switch (tag) {
    case "percent-off":
      return `${val.percent} % off ${val.tag}`;
    case "buy-get-free":
      return `buy ${val.buy}, get ${val.free} free`;
    default:
      return `${euros(val.offCents)} off from ${euros(val.atLeastCents)}`;
  }
}

const euros = (cents) => (cents / 100).toFixed(2);
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
