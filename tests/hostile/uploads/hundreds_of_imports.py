"""Attack: hundreds of imports that no worker has, and as many with names of eighty thousand letters, to be told back."""

from wasm_binary import EXPORT, IMPORT, TYPE, component, name, number, section, vector


def uploads(_):
    yield component_that_imports(f"import{number}" for number in range(900))
    yield component_that_imports(f"i{number}-" + "x" * 80_000 for number in range(500))


def component_that_imports(names):
    names = list(names)
    imports = vector(b"\0" + name(one) + b"\x01\0" for one in names)
    whole = component(before=section(TYPE, vector([b"\x40\0\x01\0"])) + section(IMPORT, imports))
    # the exported function comes after all that are imported
    exported = [
        section(EXPORT, vector([b"\0" + name("attack") + b"\x01" + number(index) + b"\0"])) for index in (0, len(names))
    ]
    return whole.replace(*exported)
