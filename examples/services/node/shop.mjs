// A shop that emits and acts through its sidecar, with nothing but Node: node shop.mjs (see ../README.md)
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const sidecar = process.env.WALNATSD_URL ?? "http://127.0.0.1:7521";
if (!process.env.WEBHOOK_SECRET) throw new Error("WEBHOOK_SECRET is whsec_ and base64, as the sidecar has it");
const key = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");
const shipped = new Set(); // a real shop asks its database

// Stored once it has returned, and stored once: the uid makes another try safe.
async function emit(event, uid, payload) {
  const answer = await fetch(`${sidecar}/v1/events/${event}?uid=${encodeURIComponent(uid)}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(payload),
    signal: AbortSignal.timeout(20_000), // above emit.timeout of the sidecar
  });
  if (!answer.ok) throw new Error(`not emitted: ${await answer.text()}`);
}

// Standard Webhooks: only the sidecar knows the secret, and an old request is no use to anybody.
function isSigned(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": signatures = "" } = headers;
  if (!(Math.abs(Date.now() / 1000 - Number(at)) < 300)) return false;
  const expected = Buffer.from(`v1,${createHmac("sha256", key).update(`${id}.${at}.`).update(body).digest("base64")}`);
  return signatures.split(" ").some((given) => given.length === expected.length && timingSafeEqual(Buffer.from(given), expected));
}

const orderOf = (body) => {
  try {
    const order = JSON.parse(body);
    return Number.isSafeInteger(order.order_id) && typeof order.item === "string" ? order : undefined;
  } catch {
    return undefined;
  }
};

const routes = {
  "GET /healthz": async () => [204],
  "GET /parcels": async () => [200, [...shipped]],
  "POST /orders": async (_request, body) => {
    const order = orderOf(body);
    if (!order) return [400, "an order has an order_id and an item"];
    await emit("order-placed", `order-${order.order_id}`, order);
    return [202, order];
  },
  // Called at least once for each order. 2xx: done. 422: never, keep it as a dead letter. 5xx or a crash: again later.
  "POST /ship": async (request, body) => {
    if (!isSigned(request.headers, body)) return [401, "not signed by the sidecar"];
    const order = orderOf(body);
    if (!order) return [422, "an order has an order_id and an item"];
    await emit("parcel-sent", `parcel-${order.order_id}`, { order_id: order.order_id });
    shipped.add(order.order_id); // to ship it again changes nothing
    return [204];
  },
};

const server = createServer(async (request, response) => {
  const chunks = [];
  let status = 500, answer = "this went wrong; try again";
  try {
    for await (const chunk of request) chunks.push(chunk);
    const route = routes[`${request.method} ${request.url}`] ?? (async () => [404, "no such path"]);
    [status, answer] = await route(request, Buffer.concat(chunks));
  } catch (error) {
    console.error(error);
  }
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(answer === undefined ? undefined : JSON.stringify(answer));
});
server.listen(Number(process.env.PORT ?? 8000), process.env.HOST ?? "127.0.0.1");
process.on("SIGTERM", () => {
  server.close(() => process.exit(0)); // what is in flight is answered
  server.closeIdleConnections();
});
