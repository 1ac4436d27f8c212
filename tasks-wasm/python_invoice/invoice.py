"""The invoice itself: plain Python that runs, and is tested, without WebAssembly."""

from collections import defaultdict
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from html import escape
from string import Template

CENT = Decimal("0.01")
MAX_PRICE = 1_000_000_000
MAX_RATE = 100

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Invoice $number</title></head>
<body>
<h1>Invoice $number</h1>
<p>$issued</p>
<address>$seller</address>
<address>$buyer</address>
<table>
<tr><th>Description</th><th>Quantity</th><th>Unit price</th><th>VAT</th><th>Net</th></tr>
$lines
</table>
<table>
<tr><th>Net</th><td>$net $currency</td></tr>
$vat
<tr><th>Total</th><td>$total $currency</td></tr>
</table>
</body>
</html>
""")
LINE = Template(
    "<tr><td>$description</td><td>$quantity</td><td>$price</td><td>$rate %</td><td>$net</td></tr>"
)
VAT = Template("<tr><th>VAT $rate %</th><td>$amount $currency</td></tr>")


class NoLines(Exception):
    """Nothing was sold."""


class BadAmount(Exception):
    """A price or a rate that is not a decimal number, or out of bounds."""


@dataclass(frozen=True)
class Totals:
    net: Decimal
    vat: list[tuple[Decimal, Decimal, Decimal]]
    """Rate, net and amount, from the highest rate to the lowest."""

    @property
    def total(self) -> Decimal:
        return self.net + sum(amount for _, _, amount in self.vat)


def totals(invoice) -> Totals:
    if not invoice.lines:
        raise NoLines
    by_rate: defaultdict[Decimal, Decimal] = defaultdict(Decimal)
    for line in invoice.lines:
        by_rate[vat_rate(line)] += net(line)
    vat = [
        (rate, by_rate[rate], (by_rate[rate] * rate / 100).quantize(CENT, ROUND_HALF_UP))
        for rate in sorted(by_rate, reverse=True)
    ]
    return Totals(net=sum(by_rate.values(), Decimal()), vat=vat)


def page(invoice, sums: Totals) -> str:
    currency = escape(invoice.currency)
    return PAGE.substitute(
        number=escape(invoice.number),
        issued=escape(invoice.issued),
        currency=currency,
        seller=address(invoice.seller),
        buyer=address(invoice.buyer),
        lines="\n".join(
            LINE.substitute(
                description=escape(line.description),
                quantity=line.quantity,
                price=unit_price(line),
                rate=vat_rate(line),
                net=net(line),
            )
            for line in invoice.lines
        ),
        net=sums.net,
        vat="\n".join(
            VAT.substitute(rate=rate, amount=amount, currency=currency)
            for rate, _, amount in sums.vat
        ),
        total=sums.total,
    )


def net(line) -> Decimal:
    return (unit_price(line) * line.quantity).quantize(CENT, ROUND_HALF_UP)


def unit_price(line) -> Decimal:
    return number(line.unit_price, "unit-price", MAX_PRICE)


def vat_rate(line) -> Decimal:
    return number(line.vat_rate, "vat-rate", MAX_RATE)


def number(text: str, what: str, most: int) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise BadAmount(f"{what} {text!r} is not a decimal number") from None
    if not value.is_finite() or not 0 <= value <= most:
        raise BadAmount(f"{what} {text!r} is not within 0 and {most}")
    return value


def address(party) -> str:
    rows = [party.name, party.street, party.city]
    if party.vat_number:
        rows.append(f"VAT {party.vat_number}")
    return "<br>".join(map(escape, rows))
