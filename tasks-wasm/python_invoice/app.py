"""The task: what the component exports. `wit_world` is generated from wit/ while it is built."""

import invoice as invoices
from componentize_py_types import Err
from wit_world import WitWorld as Tasks
from wit_world.imports.types import (
    Invoice,
    InvoiceError_BadAmount,
    InvoiceError_NoLines,
    Rendered,
    Vat,
)


class WitWorld(Tasks):
    def render_invoice(self, invoice: Invoice) -> Rendered:
        try:
            sums = invoices.totals(invoice)
        except invoices.NoLines:
            raise Err(InvoiceError_NoLines())
        except invoices.BadAmount as error:
            raise Err(InvoiceError_BadAmount(str(error)))
        return Rendered(
            html=invoices.page(invoice, sums),
            net=str(sums.net),
            vat=[Vat(str(rate), str(net), str(amount)) for rate, net, amount in sums.vat],
            total=str(sums.total),
        )
