// Reads diagrams from standard input, each as JSON text in one line, and answers in one line what Mermaid understood.
import DOMPurify from "dompurify";
import { createInterface } from "node:readline";

// What it cleans is HTML, for which it needs a browser; what is tested is the parser.
DOMPurify.addHook = () => {};
DOMPurify.sanitize = (text) => text;
const { default: mermaid } = await import("mermaid");

async function understand(text) {
  try {
    await mermaid.parse(text);
    const { db, type } = await mermaid.mermaidAPI.getDiagramFromText(text);
    const nodes = [...db.getVertices().values()].map(({ id, text }) => [id, text]);
    const groups = db.getSubGraphs().map(({ id, title, nodes }) => [id, title, nodes]);
    const edges = db.getEdges().map(({ start, end, type, text }) => [start, end, type, text]);
    return { type, title: db.getDiagramTitle(), nodes, groups, edges };
  } catch (error) {
    return { error: String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await understand(JSON.parse(line))));
}
