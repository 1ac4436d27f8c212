"""Attack: components in components, deeper than any reader's stack."""

from wasm_binary import COMPONENT, NESTED, component, section


def uploads(_):
    inner = COMPONENT
    for _ in range(20_000):
        inner = COMPONENT + section(NESTED, inner)
    yield component(before=section(NESTED, inner))
