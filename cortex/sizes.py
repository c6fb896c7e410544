"""Sizes as people read them."""

MIB, GIB = 1 << 20, 1 << 30


def gib(size: int) -> str:
    """Bytes for eyes: GiB, and MiB below a tenth of one."""
    if not size:
        return "0 GiB"
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / MIB:.1f} MiB"
