"""HDF5 files that lead to other files: refused, since whoever sends one chooses what is read on this machine.

There are three ways out of a file: external links, external raw storage, and virtual datasets of other files. Only the
user of this machine can allow them, by an environment variable: no setting, as settings travel with runs.
"""

import os

import h5py
from h5py import h5d, h5l, h5o

from pgd_jax.core.errors import UserError

ALLOW = "PGD_JAX_EXTERNAL_FILES"


def refuse(source: str, file: h5py.File) -> None:
    """Raises UserError where anything in `file` lies in another one, unless $PGD_JAX_EXTERNAL_FILES is 1.

    Nothing is followed to find out. `source` is what the error calls the file.
    """
    if os.environ.get(ALLOW, "0") == "1":
        return

    def look(name: bytes, link: h5l.LinkInfo) -> str | None:
        where = _elsewhere(file, name, link)
        return where and f"{name.decode(errors='replace')} {where}"

    if found := file.id.links.visit(look, info=True):
        raise UserError(
            f"{source}: {found}; a file may not lead to others, as its sender would choose what is read here. If that "
            f"is meant, set {ALLOW}=1, or copy everything into one file"
        )


def _elsewhere(file: h5py.File, name: bytes, link: h5l.LinkInfo) -> str | None:
    """Where what `link` names lies, if in another file."""
    if link.type == h5l.TYPE_EXTERNAL:
        return f"is a link into {os.fsdecode(file.id.links.get_val(name)[0])}"
    if link.type not in (h5l.TYPE_HARD, h5l.TYPE_SOFT):
        return f"is a link of unknown kind {link.type}"
    target = h5o.open(file.id, name) if link.type == h5l.TYPE_HARD else None
    if not isinstance(target, h5d.DatasetID):
        return None
    made = target.get_create_plist()
    if made.get_external_count():
        return f"is stored in {os.fsdecode(made.get_external(0)[0])}"
    if made.get_layout() == h5d.VIRTUAL:
        sources = {made.get_virtual_filename(index) for index in range(made.get_virtual_count())} - {"."}
        return f"is put together from {min(sources)}" if sources else None
    return None
