// How many requests were planned, why others were not, and what to do about it, in words.

const KINDS = [
  ["planned", "planned", "planned"],
  ["unplanned", "not planned", "unplanned"],
  ["refused", "refused", "refused"],
  ["applications", "planned for applications", "applications"],
  ["no_prompt", "without a prompt", "no-prompt"],
];

function make(name, options = {}, ...children) {
  const node = Object.assign(document.createElement(name), options);
  node.append(...children);
  return node;
}

const whole = (number) => number.toLocaleString("en");

// One sentence on how it goes; [text, whether something should be done].
function verdict(requests) {
  const { planned, unplanned, refused, applications } = requests;
  const here = location.origin;
  if (planned + unplanned + refused + applications === 0) {
    return [`No request has come yet: point a client at ${here}/v1, or an application at ContextPilot(index_url="${here}").`, true];
  }
  if (refused > planned + unplanned + applications) return ["Most requests are refused: see below for reasons and remedies.", true];
  if (unplanned > planned) return ["Most requests are not planned: see below for reasons and remedies.", true];
  if (unplanned + refused === 0) return ["Every request with a prompt is planned.", false];
  return ["Some requests are not planned: see below for reasons and remedies.", false];
}

function reason(one, kind) {
  const count = make("strong", { className: kind, textContent: whole(one.count) });
  return make("li", {},
    make("p", {}, count, ` ${one.words}`),
    make("p", { className: "hint", textContent: `What to do: ${one.remedy}.` }));
}

export function showTraffic(requests, byId) {
  const [text, isPressing] = verdict(requests);
  byId("verdict").textContent = text;
  byId("verdict").className = isPressing ? "fair" : "";
  const shown = KINDS.filter(([field]) => requests[field] > 0);
  byId("shares").hidden = !shown.length;
  byId("shares").replaceChildren(...shown.map(([field, , kind]) => {
    const part = make("i", { className: kind });
    part.style.flexGrow = requests[field];
    return part;
  }));
  byId("counts").replaceChildren(...shown.map(([field, words, kind]) =>
    make("li", {}, make("span", { className: `key ${kind}` }), make("strong", { textContent: whole(requests[field]) }), ` ${words}`)));
  byId("reasons").replaceChildren(
    ...requests.why_refused.map((one) => reason(one, "refused")),
    ...requests.why_unplanned.map((one) => reason(one, "unplanned")),
    ...requests.why_missed.map((one) => reason(one, "unplanned")));
}

// What an engine's state asks for; "" where all is well.
export function engineAdvice(engine) {
  if (!engine.real) return "No engine is configured: requests to /v1 are refused until one joins (--engine URL).";
  if (engine.up === false) return "It does not answer: check that it runs and that its address is right.";
  if (engine.sync === "off") {
    return `Its evictions are unknown. Launch it with CONTEXTPILOT_INDEX_URL=${location.origin}, where contextpilot is installed.`;
  }
  if (engine.sync === "approximate") return "Some of its events were lost, or it is judged by age; no action needed.";
  return "";
}
