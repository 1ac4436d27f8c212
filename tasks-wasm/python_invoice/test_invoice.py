import unittest
from decimal import Decimal
from types import SimpleNamespace as Record

from invoice import BadAmount, NoLines, page, totals


def line(unit_price, quantity=1, vat_rate="21", description="A thing"):
    return Record(
        description=description, quantity=quantity, unit_price=unit_price, vat_rate=vat_rate
    )


def invoice(*lines):
    return Record(
        number="2026-0001",
        issued="22 November 2026",
        currency="EUR",
        seller=Record(name="Ink & Co", street="Quay 1", city="Ghent", vat_number="BE0123456789"),
        buyer=Record(name="A Reader", street="Hill 2", city="Porto", vat_number=None),
        lines=list(lines),
    )


class Totals(unittest.TestCase):
    def test_vat_is_summed_and_rounded_once_per_rate(self):
        sums = totals(invoice(line("19.90", 3), line("0.05", 1, "6"), line("0.05", 1, "6.0")))
        self.assertEqual(sums.net, Decimal("59.80"))
        self.assertEqual(
            sums.vat,
            [
                (Decimal("21"), Decimal("59.70"), Decimal("12.54")),
                (Decimal("6"), Decimal("0.10"), Decimal("0.01")),
            ],
        )
        self.assertEqual(sums.total, Decimal("72.35"))

    def test_half_a_cent_is_rounded_up(self):
        self.assertEqual(totals(invoice(line("0.50", 1, "1"))).total, Decimal("0.51"))

    def test_an_invoice_needs_a_line(self):
        with self.assertRaises(NoLines):
            totals(invoice())

    def test_amounts_that_are_refused(self):
        for text in ["", "free", "-1", "NaN", "Infinity", "1e10", "1,50"]:
            with self.subTest(text), self.assertRaises(BadAmount) as caught:
                totals(invoice(line(text)))
            self.assertIn(repr(text), str(caught.exception))
        with self.assertRaises(BadAmount):
            totals(invoice(line("1", vat_rate="101")))


class Page(unittest.TestCase):
    def test_shows_the_sums(self):
        asked = invoice(line("19.90", 3))
        html = page(asked, totals(asked))
        self.assertIn("<td>19.90</td><td>21 %</td><td>59.70</td>", html)
        self.assertIn("<tr><th>VAT 21 %</th><td>12.54 EUR</td></tr>", html)
        self.assertIn("<tr><th>Total</th><td>72.24 EUR</td></tr>", html)
        self.assertIn("Ink &amp; Co<br>Quay 1<br>Ghent<br>VAT BE0123456789", html)

    def test_escapes_what_it_is_given(self):
        asked = invoice(line("1", description="<script>$number</script>"))
        html = page(asked, totals(asked))
        self.assertIn("&lt;script&gt;$number&lt;/script&gt;", html)
        self.assertNotIn("<script>", html)


if __name__ == "__main__":
    unittest.main()
