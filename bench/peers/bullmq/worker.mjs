import { Worker } from "bullmq";
import mongoose from "mongoose";

import { connection, Event } from "./event.mjs";

await mongoose.connect(process.env.MONGODB_URI);
new Worker("events", (job) => Event.create(job.data), { connection, concurrency: 100 });
