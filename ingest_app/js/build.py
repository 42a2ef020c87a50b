"""`make tracker`: minifies the scripts that the app serves.

Each result is named as its source. stand_in.min.js is stand_in.js and footfall.js. Sources and results are in the
repository, so that an installation needs no minifier. Exits with an error if a result is too large.
"""

import gzip
import sys
from pathlib import Path

import minify

from ingest_app.tracker import EXTRAS, STAND_IN, TRACKER

SOURCES = {TRACKER: ("footfall.js",), STAND_IN: ("stand_in.js", "footfall.js"), EXTRAS: ("extras.js",)}
MOST_BYTES = {TRACKER: 2048, STAND_IN: 3072, EXTRAS: 2048}  # after gzip


def build(script: Path) -> bytes:
    source = ";\n".join(script.with_name(name).read_text() for name in SOURCES[script])
    minified: str = minify.string("application/javascript", source)
    return f"{minified}\n".encode()


def main() -> None:
    for script, most in MOST_BYTES.items():
        built = build(script)
        size = len(gzip.compress(built, 9, mtime=0))
        if size > most:
            sys.exit(f"{size} bytes gzipped, more than {most}: {script.name} is left as it was")
        script.write_bytes(built)
        sys.stdout.write(f"{script.name}: {len(built)} bytes, {size} gzipped\n")


if __name__ == "__main__":
    main()
