"""HDF5 files that lead to other files are refused: the sender of such a file chooses what is read on this machine.

A file can lead to others in three ways: external links, external raw storage, and virtual datasets. Only the user of
this machine can allow them, with an environment variable. It is not a setting, because settings travel with runs.
"""

import os

import h5py
from h5py import h5d, h5l, h5o

from pgd_jax.core.errors import UserError

ALLOW = "PGD_JAX_EXTERNAL_FILES"


def refuse(source: str, file: h5py.File) -> None:
    """Raises UserError if anything in `file` is stored in another file, unless $PGD_JAX_EXTERNAL_FILES is 1.

    The check follows no link. The error calls the file `source`.
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
    """A message on the other file that `link` leads to; None if it stays in `file`."""
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
