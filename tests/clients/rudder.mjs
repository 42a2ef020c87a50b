// node rudder.mjs URL WRITE_KEY COUNT PACE: so many tracks, one every PACE ms; then one that nobody can store, a screen.
import { setTimeout as sleep } from "node:timers/promises";
import Analytics from "@rudderstack/rudder-sdk-node";

const [dataPlaneUrl, writeKey, count, pace] = process.argv.slice(2);
// It gives up after 3 tries, some 2 s, and an error then ends its process; with 10 it outlives a restart.
const analytics = new Analytics(writeKey, { dataPlaneUrl, flushAt: 5, flushInterval: 200, retryCount: 10 });
analytics.logger.error = () => {};
for (let n = 0; n < Number(count); n++) {
  analytics.track({ userId: `u${n % 3}`, event: "Played", properties: { n, song: { title: "A" } } });
  await sleep(Number(pace));
}
analytics.track({ userId: "ann", event: "x".repeat(200) });
analytics.screen({ anonymousId: "nobody", name: "Cart", context: { device: { type: "ios" }, os: { name: "iOS" } } });
while (analytics.queue.length) await analytics.flush();
await analytics.pendingFlush;
