// node plausible.mjs URL DOMAIN: a visit with a pageview, two events and the engagement that leaving sends.
import { open } from "./browser.mjs";

const [url, domain] = process.argv.slice(2);
const page = open("https://shop.example/pricing?utm_source=news", "https://search.example/");
const { init, track } = await import("@plausible-analytics/tracker");

const answers = [];
const callback = (answer) => answers.push(answer.status ?? String(answer.error));
init({ domain, endpoint: `${url}/api/event`, customProperties: { theme: "dark" }, logging: false });
track("Purchase", { props: { plan: "pro" }, revenue: { amount: 10.5, currency: "USD" }, callback });
track("Tooltip", { interactive: false, callback });
await page.settle();
page.leave();
await page.settle();
console.log(JSON.stringify(answers));
process.exit();
