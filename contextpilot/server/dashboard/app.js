// Reads the feed and shows it. Text goes in by textContent only; nothing is ever parsed as HTML.

import { draw } from "./chart.js";
import { engineAdvice, showTraffic } from "./traffic.js";

const INTERVAL_MS = 2000;
const SYNC_CLASS = { exact: "good", approximate: "fair", off: "bad" };
const byId = (id) => document.getElementById(id);
let failures = 0;

function make(name, options = {}, ...children) {
  const node = Object.assign(document.createElement(name), options);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "–");

function short(number) {
  if (number === null || number === undefined) return "–";
  const units = [[1e9, "G"], [1e6, "M"], [1e4, "k"]];
  for (const [size, unit] of units) {
    if (Math.abs(number) >= size) return `${(number / (unit === "k" ? 1e3 : size)).toFixed(1)} ${unit}`;
  }
  return Math.round(number).toLocaleString("en");
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 120 ? `${value.toFixed(1)} s` : `${Math.round(value / 60)} min`;
}

async function read(path) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const reply = await fetch(path, { headers, cache: "no-store" });
  if (reply.status === 401) {
    byId("login").hidden = false;
    byId("main").hidden = true;
    throw new Error("a token is needed");
  }
  if (!reply.ok) throw new Error(`the server answered ${reply.status}`);
  byId("login").hidden = true;
  return reply.json();
}

// -- sums -------------------------------------------------------------------------------------------

function showTotals({ totals, measured }) {
  byId("hit").textContent = percent(totals.live_tokens, totals.tokens);
  byId("plain").textContent = percent(totals.plain_tokens, totals.tokens);
  byId("saved").textContent = short(totals.live_tokens - totals.plain_tokens);
  byId("saved-hint").textContent = `tokens, of ${short(totals.tokens)} planned`;
  byId("evicted").textContent = short(totals.evicted);
  byId("hit-hint").textContent = measured.requests
    ? `engines measured ${percent(measured.cached_tokens, measured.prompt_tokens)} of prompts`
    : "of block tokens, as planned";
}

// -- engines ----------------------------------------------------------------------------------------

function fact(list, name, value) {
  list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
}

function kvEvents(events) {
  if (events.refused) return `not reported: ${events.refused}`;
  const role = events.role === "tells" ? `report ${short(events.num_requests)} requests`
    : `agree with the hooks on ${short(events.num_agreed)} of ${short(events.num_agreed + events.num_differing)} requests`;
  return `${events.state}; ${role}; ${short(events.num_gaps)} gaps`;
}

function engineCard(engine) {
  if (!engine.real) return indexCard(engine);
  const sync = make("span", { className: `badge ${SYNC_CLASS[engine.sync]}`, textContent: `sync ${engine.sync}` });
  const [life, kind] = { true: ["up", "good"], false: ["down", "bad"] }[engine.up] ?? ["not asked yet", "fair"];
  const up = make("span", { className: `badge ${kind}`, textContent: life });
  const facts = make("dl");
  const limit = engine.max_in_flight === null ? "" : ` of ${engine.max_in_flight}`;
  fact(facts, "last event", engine.last_event_age_s === null ? "never" : `${seconds(engine.last_event_age_s)} ago`);
  fact(facts, "in flight", `${engine.in_flight}${limit}`);
  fact(facts, "waiting", `${engine.waiting}, longest so far ${seconds(engine.waited.longest_s)}`);
  fact(facts, "hit ratio", `${percent(engine.live_tokens, engine.tokens)} (plain ${percent(engine.plain_tokens, engine.tokens)})`);
  fact(facts, "served, failed", `${short(engine.served)}, ${short(engine.failed)}`);
  fact(facts, "evictions", short(engine.evicted));
  if (engine.slots !== null) fact(facts, "slots", engine.slots);
  if (engine.kv_events) fact(facts, "KV events", kvEvents(engine.kv_events));
  return make("article", { className: "engine" }, make("h3", { textContent: `${engine.engine} ` }, up, " ", sync), facts, advice(engine));
}

function indexCard(engine) {
  const facts = make("dl");
  fact(facts, "hit ratio", percent(engine.live_tokens, engine.tokens));
  return make("article", { className: "engine" }, make("h3", { textContent: "index only" }), facts, advice(engine));
}

function advice(engine) {
  const text = engineAdvice(engine);
  return text ? make("p", { className: "hint", textContent: text }) : null;
}

// -- requests ---------------------------------------------------------------------------------------

function requestItem(request) {
  const total = request.total_tokens || 1;
  const bar = make("div", { className: "bar", title: "green: live; yellow: seen before" });
  for (const [kind, tokens] of [["reach", request.reachable_tokens], ["live", request.matched_tokens]]) {
    const part = make("i", { className: kind });
    part.style.width = `${(100 * tokens) / total}%`;
    bar.append(part);
  }
  const where = request.engine === null ? request.api : `${request.api}, engine ${request.engine}`;
  const counts = `${short(request.matched_tokens)} of ${short(request.total_tokens)} tokens live, `
    + `${short(request.reachable_tokens)} seen before; first byte ${seconds(request.first_byte_s)}`;
  const measured = request.cached_tokens === null ? "" : `; the engine hit ${short(request.cached_tokens)} of ${short(request.prompt_tokens)}`;
  const miss = request.first_miss ? make("p", { className: "hint", textContent: `first miss: ${request.first_miss}` }) : null;
  const volatile = request.volatile.length
    ? make("p", { className: "fair", textContent: `changes at the head of the prompt: ${request.volatile.join(", ")}` }) : null;
  return make("li", { className: "request" },
    make("p", {}, make("code", { textContent: request.request_id }), ` ${where}`),
    bar,
    make("p", { className: "hint", textContent: counts + measured }),
    make("p", { textContent: request.reason }), miss, volatile);
}

function showRequests(id, requests) {
  const items = requests.map(requestItem);
  byId(id).replaceChildren(...(items.length ? items : [make("li", { className: "hint", textContent: "none yet" })]));
}

// -- index ------------------------------------------------------------------------------------------

function blockChips(blocks) {
  const chips = blocks.map((block) => make("span", {
    className: `block ${block.kind}`,
    textContent: `${block.kind === "head" ? "head " : ""}${block.name}${block.tokens === null ? "" : ` · ${short(block.tokens)}`}`,
  }));
  return make("div", { className: "blocks" }, ...chips);
}

function branchNode(place, path, branch) {
  const names = [...path, ...branch.blocks.map((block) => block.name)];
  const blocks = branch.blocks.filter((block) => block.kind === "block").length;
  const many = blocks === 1 ? "1 block" : `${blocks} blocks`;
  const what = blocks ? `${many}, ${short(branch.tokens)} tokens` : "head of the prompt";
  const summary = make("summary", { textContent: what + (branch.branches ? `, then ${branch.branches} branches` : "") });
  const node = make("details", {}, summary, blockChips(branch.blocks));
  if (branch.branches) onFirstOpen(node, () => grow(node, place, names));
  return node;
}

function onFirstOpen(node, action) {
  const opened = () => {
    if (!node.open) return;
    node.removeEventListener("toggle", opened);
    action();
  };
  node.addEventListener("toggle", opened);
}

async function grow(node, place, path) {
  const query = new URLSearchParams({ ...place, path: path.join(".") });
  try {
    const found = await read(`dashboard/tree?${query}`);
    node.append(...found.branches.map((branch) => branchNode(place, path, branch)));
    if (found.hidden) node.append(make("p", { className: "hint", textContent: `and ${found.hidden} more` }));
    if (!found.branches.length) node.append(make("p", { className: "hint", textContent: "empty" }));
  } catch (error) {
    node.append(make("p", { className: "hint", textContent: `not available: ${error.message}` }));
  }
}

const knownIndexes = new Map();

function showIndexes(indexes) {
  Object.entries(indexes).forEach(([engine, spaces]) => spaces.forEach((space) => {
    const id = `${engine}/${space.namespace}`;
    let node = knownIndexes.get(id);
    if (!node) {
      node = make("details", {}, make("summary"));
      knownIndexes.set(id, node);
      node.addEventListener("toggle", () => {
        node.replaceChildren(node.firstChild);
        if (node.open) grow(node, { engine, namespace: space.namespace }, []);
      });
      byId("indexes").append(node);
    }
    node.firstChild.textContent = `engine ${engine}, namespace ${space.namespace}: ${short(space.num_blocks)} blocks, `
      + `${short(space.num_requests)} requests`;
  }));
  if (!knownIndexes.size) byId("indexes").textContent = "empty";
  else if (byId("indexes").firstChild?.nodeType === Node.TEXT_NODE) byId("indexes").firstChild.remove();
}

// -- life -------------------------------------------------------------------------------------------

function show(feed) {
  showTotals(feed);
  showTraffic(feed.requests, byId);
  byId("engines").replaceChildren(...feed.engines.map(engineCard));
  showRequests("worst", feed.worst);
  showRequests("slowest", feed.slowest);
  showIndexes(feed.indexes);
  byId("version").textContent = `ContextPilot ${feed.version}`;
  byId("main").hidden = false;
  byId("chart").replaceChildren(draw(feed.history, byId("chart").clientWidth));
}

async function refresh() {
  const status = byId("status");
  try {
    if (!document.hidden) {
      const feed = await read("dashboard/feed");
      failures = 0;
      show(feed);
      status.className = "";
      status.textContent = `as of ${new Date(feed.time * 1000).toTimeString().slice(0, 8)}`;
    }
  } catch (error) {
    failures += 1;
    status.className = "stale";
    status.textContent = `not up to date: ${error.message}`;
  }
  setTimeout(refresh, INTERVAL_MS * Math.min(8, 2 ** failures));
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  byId("token").value = "";
  location.reload();
});
refresh();
