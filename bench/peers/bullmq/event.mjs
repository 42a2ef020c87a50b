import mongoose from "mongoose";

const text = { type: String };
const schema = new mongoose.Schema(
  {
    site_id: { type: String, required: true },
    event_type: { type: String, required: true },
    path: text,
    url: text,
    referrer: text,
    screen: text,
    user_id: text,
    user_agent: text,
    ip: text,
    timestamp: { type: Date, default: Date.now },
  },
  { versionKey: false, autoIndex: false }, // the bench gives all contenders the same index
);

export const Event = mongoose.model("Event", schema, "events");
export const connection = { host: "127.0.0.1", port: Number(process.env.REDIS_PORT) };
