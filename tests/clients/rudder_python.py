"""python rudder_python.py URL WRITE_KEY COUNT PACE: so many tracks, one every PACE ms."""

import sys
import time

from rudderstack import analytics

analytics.dataPlaneUrl, analytics.write_key = sys.argv[1:3]
analytics.on_error = lambda error, items: print(error, len(items), file=sys.stderr)
for n in range(int(sys.argv[3])):
    analytics.track(f"u{n % 3}", "Played", {"n": n, "song": {"title": "A"}})
    time.sleep(int(sys.argv[4]) / 1000)
analytics.shutdown()
