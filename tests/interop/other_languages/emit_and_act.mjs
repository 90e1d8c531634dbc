// An actor and an emitter with nothing but Node. Prints the actor's port, waits for a line with the sidecar's http
// address, emits, and prints a line of JSON for every answer and every delivery. Ends when its input ends.
import { createServer } from "node:http";
import { createInterface } from "node:readline";

const tell = (what) => console.log(JSON.stringify(what));

const actor = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const headers = request.headers;
  tell({ received: Buffer.concat(chunks).toString(), headers });
  // the second one is taken on its second attempt
  response.statusCode = headers["walnats-uid"] === "two" && headers["walnats-attempt"] === "1" ? 500 : 204;
  response.end();
});

async function emit(sidecar, event, uid, payload) {
  const answer = await fetch(`http://${sidecar}/v1/events/${event}?trace_id=t-${uid}`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "Idempotency-Key": `"${uid}"`,
      "ce-subject": uid,
      "walnats-header-X-Language": "any",
    },
    body: JSON.stringify(payload),
  });
  tell({ status: answer.status, answer: await answer.json() });
}

actor.listen(0, "127.0.0.1", async () => {
  tell({ port: actor.address().port });
  for await (const sidecar of createInterface({ input: process.stdin })) {
    await emit(sidecar, "greetings", "one", { text: "grüß dich" });
    await emit(sidecar, "greetings", "two", { text: "again" });
    await emit(sidecar, "greetings", "one", { text: "grüß dich" });
    await emit(sidecar, "nobody-knows", "three", {});
  }
  process.exit(0);
});
