"""`make tracker`: footfall.js, as people read it, becomes footfall.min.js, as it is served.

Both are in the repository: who installs Footfall needs no minifier. Fails where the result is too large.
"""

import gzip
import sys
from pathlib import Path

import minify

_HERE = Path(__file__).parent
SOURCE = _HERE / "footfall.js"
BUILT = _HERE / "footfall.min.js"
MOST_BYTES = 2048  # gzipped


def build() -> bytes:
    minified: str = minify.string("application/javascript", SOURCE.read_text())
    return f"{minified}\n".encode()


def main() -> None:
    built = build()
    size = len(gzip.compress(built, 9, mtime=0))
    if size > MOST_BYTES:
        sys.exit(f"{size} bytes gzipped, more than {MOST_BYTES}: {BUILT.name} is left as it was")
    BUILT.write_bytes(built)
    sys.stdout.write(f"{BUILT.name}: {len(built)} bytes, {size} gzipped\n")


if __name__ == "__main__":
    main()
