// Keeps the numbers of a page fresh and shows the live tail. What comes from the daemon is text or its own pages, never HTML
// made here; the content security policy lets nothing else run.
"use strict";

const PERIOD_MS = 5000;
const MOST_ROWS = 200;
const MOST_CHARACTERS = 2000;

// ---- numbers

function rowNames(body) {
  return [...body.rows].map((row) => row.dataset.row).join("\n");
}

function replaceWhereChanged(old, fresh) {
  // what somebody is on with the keyboard stays, and is fresh the next time
  if (fresh === null || fresh === undefined || old.isEqualNode(fresh)) return;
  if (old.tagName === "TBODY" && rowNames(old) === rowNames(fresh)) {
    const cells = [...fresh.querySelectorAll("td, th")];
    [...old.querySelectorAll("td, th")].forEach((cell, index) => replaceWhereChanged(cell, cells[index]));
  } else if (!old.contains(document.activeElement)) {
    old.replaceWith(document.adoptNode(fresh));
  }
}

function keepFresh(button, freshness) {
  let timer = null;
  async function refresh() {
    try {
      const answer = await fetch(location.href);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!answer.ok) throw new Error(String(answer.status));
      document.querySelectorAll("[data-live]").forEach((old) => replaceWhereChanged(old, fresh.getElementById(old.id)));
      freshness.textContent = "";
    } catch {
      if (freshness.textContent === "") {
        freshness.textContent = `The daemon does not answer since ${new Date().toLocaleTimeString()}. What is shown is older.`;
      }
    }
    if (timer !== null) timer = setTimeout(refresh, PERIOD_MS);
  }
  function start() {
    timer = setTimeout(refresh, PERIOD_MS);
    button.textContent = "Stop refreshing";
  }
  button.addEventListener("click", () => {
    if (timer === null) {
      start();
    } else {
      clearTimeout(timer);
      timer = null;
      button.textContent = "Refresh every 5 seconds";
    }
  });
  button.hidden = false;
  start();
}

// ---- choosing

function chooseAll(box) {
  const boxes = [...document.querySelectorAll('input[name="sequence"]')];
  box.addEventListener("change", () => boxes.forEach((each) => { each.checked = box.checked; }));
  boxes.forEach((each) => each.addEventListener("change", () => { box.checked = boxes.every((one) => one.checked); }));
  box.hidden = false;
}

// ---- tail

function cell(text, className) {
  const made = document.createElement("td");
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Signs without a shape, and those that turn the direction of writing, as their codes.
function visible(text) {
  return text.replace(/[^\P{C}\n\t]/gu, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);
}

function payloadOf(event) {
  if (event.data !== undefined) return typeof event.data === "string" ? event.data : JSON.stringify(event.data);
  const bytes = Uint8Array.from(atob((event.data_base64 ?? "").slice(0, 4 * MOST_CHARACTERS)), (sign) => sign.charCodeAt(0));
  return new TextDecoder().decode(bytes);
}

function follow(table, state, button) {
  const body = table.tBodies[0];
  let held = false;
  const feed = new EventSource(table.dataset.feed);
  feed.onopen = () => { state.textContent = "Watching."; };
  feed.onerror = () => {
    state.textContent = feed.readyState === EventSource.CLOSED
      ? "The feed was refused: load the page again."
      : "The feed was cut off; trying again. What is emitted meanwhile is not seen.";
  };
  feed.addEventListener("gap", () => { state.textContent = "NATS was away; what was emitted meanwhile was not seen."; });
  feed.addEventListener("end", (told) => { state.textContent = JSON.parse(told.data).detail; });
  feed.onmessage = (told) => {
    if (held) return;
    const event = JSON.parse(told.data);
    const row = body.insertRow(0);
    row.append(
      cell(visible(String(event.time ?? ""))), cell(visible(String(event.walnatsevent ?? event.type))),
      cell(visible(String(event.walnatsuid ?? ""))), cell(visible(payloadOf(event).slice(0, MOST_CHARACTERS)), "text"),
    );
    while (body.rows.length > MOST_ROWS) body.deleteRow(-1);
  };
  button.addEventListener("click", () => {
    held = !held;
    button.textContent = held ? "Go on" : "Hold";
    state.textContent = held ? "Held: what is emitted now is not shown." : "Watching.";
  });
  button.hidden = false;
}

// what is to be done by hand where this script does not run
document.getElementById("by-hand")?.remove();
const refreshing = document.getElementById("refreshing");
if (refreshing !== null) keepFresh(refreshing, document.getElementById("freshness"));
const choosing = document.getElementById("choose-all");
if (choosing !== null) chooseAll(choosing);
const tail = document.getElementById("tail");
if (tail !== null) follow(tail, document.getElementById("tail-state"), document.getElementById("tail-pause"));
