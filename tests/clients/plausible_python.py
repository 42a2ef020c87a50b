"""python plausible.py URL DOMAIN: a pageview and an event, as plausible-events sends them."""

import sys
import time

from plausible_events import PlausibleEvents

# It asks the Internet for its own address before its first event, and again every 5 s until it gets one.
PlausibleEvents._get_ip = lambda _: "203.0.113.9"

plausible = PlausibleEvents(sys.argv[2], headers={"User-Agent": "App/1"}, api=f"{sys.argv[1]}/api/event")
plausible.worker.daemon = True
plausible.pageview("/start", utm={"source": "news"})
plausible.event("Saved", {"count": 3})
while plausible.queue:
    time.sleep(0.05)
time.sleep(1)
