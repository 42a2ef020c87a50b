// node segment_browser.mjs URL WRITE_KEY MODE: a page and an event, one by one or as a batch.
import { open } from "./browser.mjs";

const [cdnURL, writeKey, mode] = process.argv.slice(2);
const page = open("https://shop.example/pricing?utm_source=news&utm_campaign=spring", "https://search.example/");
const { AnalyticsBrowser } = await import("@segment/analytics-next");

const deliveryStrategy = { strategy: "batching", config: { size: 2, timeout: 100 } };
const analytics = AnalyticsBrowser.load(
  { writeKey, cdnURL },
  mode === "batch" ? { integrations: { "Segment.io": { deliveryStrategy } } } : {},
);
await analytics.page("Pricing");
await analytics.track("Signed Up", { plan: "pro", revenue: 5 });
await analytics.identify("ann", { plan: "pro" });
await page.settle();
if (mode === "batch") page.leave();
await page.settle();
console.log(page.sent.join(" "));
process.exit();
