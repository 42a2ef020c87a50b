"""python umami.py URL WEBSITE: a page, an event and revenue, as umami-analytics sends them."""

import sys

import umami

umami.set_url_base(sys.argv[1])
umami.set_website_id(sys.argv[2])
umami.set_hostname("shop.example")
umami.new_page_view("Docs", "/docs", distinct_id="ann", ip_address="203.0.113.9")
umami.new_event("signup", url="/docs", custom_data={"plan": "pro"}, distinct_id="ann")
umami.new_revenue_event(12.5, "EUR", "buy", url="/docs", distinct_id="ann")
