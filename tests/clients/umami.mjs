// node umami.mjs URL WEBSITE: a page, an event and what tells of the visitor.
import { Umami } from "@umami/node";

const [hostUrl, websiteId] = process.argv.slice(2);
const umami = new Umami({ hostUrl, websiteId });
const answers = [
  await umami.track({ url: "/docs?utm_source=news", hostname: "shop.example", title: "Docs", id: "ann", language: "de-DE" }),
  await umami.track("signup", { plan: "pro", cart: { items: 2 } }),
  await umami.identify({ plan: "pro" }),
];
console.log(JSON.stringify(await Promise.all(answers.map((answer) => answer.json()))));
