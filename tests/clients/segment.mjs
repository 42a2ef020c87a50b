// node segment.mjs URL WRITE_KEY COUNT PACE: so many tracks, one every PACE ms; before them a page and who it was.
import { setTimeout as sleep } from "node:timers/promises";
import { Analytics } from "@segment/analytics-node";

const [host, writeKey, count, pace] = process.argv.slice(2);
const analytics = new Analytics({ host, writeKey, flushAt: 5, flushInterval: 200 });
analytics.on("error", (error) => console.error(JSON.stringify(error)));
analytics.identify({ userId: "ann", traits: { plan: "pro" } });
analytics.group({ userId: "ann", groupId: "makers" });
analytics.alias({ userId: "ann", previousId: "x" });
analytics.page({ userId: "ann", name: "Docs", properties: { url: "https://shop.example/docs", title: "Docs" } });
for (let n = 0; n < Number(count); n++) {
  analytics.track({ userId: `u${n % 3}`, event: "Order Completed", properties: { total: 2.5, currency: "EUR", n } });
  await sleep(Number(pace));
}
await analytics.closeAndFlush({ timeout: 60_000 });
