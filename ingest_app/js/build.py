"""`make tracker`: minifies footfall.js, the source, to footfall.min.js, which the app serves.

Both files are in the repository, so that an installation needs no minifier. Exits with an error if the result is too
large.
"""

import gzip
import sys
from pathlib import Path

import minify

_HERE = Path(__file__).parent
SOURCE = _HERE / "footfall.js"
BUILT = _HERE / "footfall.min.js"
MOST_BYTES = 2048  # size after gzip


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
