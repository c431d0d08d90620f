"use strict";
// Writes /openapi.json out: a fold for each endpoint, with its fields and a form to try it.

const byId = (id) => document.getElementById(id);
let models = {};

const resolved = (schema) => (schema?.$ref ? models[schema.$ref.split("/").pop()] : schema) ?? {};

function typeOf(field) {
  if (field.$ref) return field.$ref.split("/").pop();
  if (field.anyOf && !field.type) {
    return [...new Set(field.anyOf.filter((one) => one.type !== "null").map(typeOf))].join(" or ");
  }
  if (field.enum) return field.enum.map((value) => JSON.stringify(value)).join(", ");
  if (field.type === "array") return `list of ${typeOf(field.items ?? {})}`;
  return field.type ?? "anything";
}

function sample(field) {
  if (field.examples?.length) return field.examples[0];
  if (field.default !== undefined) return field.default;
  const schema = resolved(field);
  if (schema.properties) return sampleBody(schema);
  if (field.anyOf) return sample(field.anyOf[0]);
  if (field.enum) return field.enum[0];
  const item = () => (field.items && !field.prefixItems ? [sample(field.items)] : []);
  return { string: "text", integer: 1, number: 1, boolean: true, array: item(), object: {} }[field.type] ?? null;
}

function sampleBody(schema) {
  const needed = (schema.required ?? []).map((name) => [name, sample(schema.properties[name])]);
  return Object.fromEntries(needed);
}

function row(name, kind, meaning) {
  const line = document.createElement("tr");
  for (const text of [name, kind, meaning ?? ""]) line.insertCell().textContent = text;
  return line;
}

function rowsOf(operation, body) {
  const rows = (operation.parameters ?? []).map((one) =>
    row(one.name, `${typeOf(one.schema)}, in the ${one.in}`, one.description));
  for (const [name, field] of Object.entries(body.properties ?? {})) {
    const needed = (body.required ?? []).includes(name) ? ", required" : "";
    rows.push(row(name, typeOf(field) + needed, field.description));
  }
  return rows;
}

async function send(form, method, hasBody) {
  const answer = form.querySelector(".answer");
  const token = byId("token").value;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (hasBody) headers["Content-Type"] = "application/json";
  answer.hidden = false;
  try {
    const path = form.elements.path.value.replace(/^\//, "");
    const body = hasBody ? form.elements.body.value : undefined;
    const reply = await fetch(path, { method: method.toUpperCase(), headers, body });
    const text = await reply.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: as it is */ }
    answer.textContent = `${reply.status} ${reply.statusText}\n${shown}`;
  } catch (error) {
    answer.textContent = `no answer: ${error.message}`;
  }
}

function endpoint(path, method, operation) {
  const part = byId("endpoint").content.cloneNode(true);
  const find = (selector) => part.querySelector(selector);
  const content = operation.requestBody?.content?.["application/json"];
  const body = resolved(content?.schema);
  find(".method").textContent = method.toUpperCase();
  find(".path").textContent = path;
  find(".summary").textContent = operation.summary;
  find(".description").textContent = operation.description ?? "";
  const rows = rowsOf(operation, body);
  find("tbody").append(...rows);
  find("table").hidden = !rows.length;
  const form = find("form");
  form.elements.path.value = path;
  find(".body").hidden = !content;
  if (content) form.elements.body.value = JSON.stringify(sampleBody(body), null, 2);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, method, Boolean(content));
  });
  return part;
}

async function show() {
  const schema = await (await fetch("openapi.json")).json();
  models = schema.components?.schemas ?? {};
  byId("version").textContent = `version ${schema.info.version}`;
  const groups = new Map();
  for (const [path, methods] of Object.entries(schema.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(endpoint(path, method, operation));
    }
  }
  const parts = [...groups].flatMap(([tag, endpoints]) => {
    const title = document.createElement("h2");
    title.textContent = tag;
    return [title, ...endpoints];
  });
  byId("endpoints").replaceChildren(...parts);
}

show().catch((error) => { byId("endpoints").textContent = `openapi.json could not be read: ${error.message}`; });
