"""python segment_python.py URL WRITE_KEY COUNT PACE: a page, then so many tracks, one every PACE ms."""

import sys
import time

from segment import analytics

analytics.host, analytics.write_key = sys.argv[1:3]
analytics.gzip = True
analytics.on_error = lambda error, items: print(error, len(items), file=sys.stderr)
analytics.page("ann", "Docs", "Pricing", {"url": "https://shop.example/pricing?utm_source=news"})
for n in range(int(sys.argv[3])):
    analytics.track(f"u{n % 3}", "Order Completed", {"revenue": 1.25, "n": n})
    time.sleep(int(sys.argv[4]) / 1000)
analytics.shutdown()
