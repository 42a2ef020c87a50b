import cluster from "node:cluster";

import { Queue } from "bullmq";
import express from "express";

import { connection } from "./event.mjs";

if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {
  const queue = new Queue("events", { connection, defaultJobOptions: { attempts: 3, removeOnComplete: true } });
  const app = express();
  app.use(express.json({ limit: "64kb" }));
  app.get("/healthz", (_request, response) => response.json({ status: "ok" }));
  app.post("/event", async (request, response) => {
    const { site_id, event_type } = request.body ?? {};
    if (!site_id || !event_type) return response.status(400).json({ error: "site_id and event_type are required" });
    await queue.add("event", { ...request.body, user_agent: request.get("user-agent"), ip: request.ip });
    response.json({ success: true, message: "Event queued successfully" });
  });
  app.listen(Number(process.env.PORT), "127.0.0.1");
}
