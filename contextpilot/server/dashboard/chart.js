// The hit ratio over time, ours and in plain order, as an SVG; evictions as ticks below.

const SVG = "http://www.w3.org/2000/svg";
const SIZE = { height: 230, left: 40, right: 12, top: 12, bottom: 30 };
const MIN_WIDTH = 280;
const NUM_BUCKETS = 60;

function shape(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Growth of [tokens, live, plain, evicted] summed over equal spans of time; empty spans are left out.
function buckets(history) {
  const first = history[0][0], last = history[history.length - 1][0];
  const span = Math.max(10, (last - first) / NUM_BUCKETS);
  const sums = new Map();
  for (const [at, ...growth] of history) {
    const number = Math.floor((at - first) / span);
    const sum = sums.get(number) ?? [0, 0, 0, 0];
    growth.forEach((value, i) => { sum[i] += value; });
    sums.set(number, sum);
  }
  return [...sums].map(([number, sum]) => [first + (number + 0.5) * span, ...sum]);
}

function clock(seconds) {
  return new Date(seconds * 1000).toTimeString().slice(0, 5);
}

function axes(svg, right, y, from, to) {
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      shape("line", { class: "grid", x1: SIZE.left, x2: right, y1: y(share), y2: y(share) }),
      shape("text", { x: SIZE.left - 6, y: y(share) + 4, "text-anchor": "end" }, `${share * 100}`),
    );
  }
  svg.append(shape("text", { x: SIZE.left, y: SIZE.height - 4 }, clock(from)));
  svg.append(shape("text", { x: right, y: SIZE.height - 4, "text-anchor": "end" }, clock(to)));
}

function line(svg, points, kind) {
  const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  svg.append(shape("polyline", { class: kind, points: path }));
  if (points.length === 1) svg.append(shape("circle", { class: kind, cx: points[0][0], cy: points[0][1], r: 4 }));
}

// The width in pixels keeps text and lines of one size on every screen.
export function draw(history, pixels) {
  const width = Math.max(MIN_WIDTH, pixels);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${SIZE.height}`, role: "img" });
  const y = (share) => SIZE.top + (1 - share) * (SIZE.height - SIZE.top - SIZE.bottom);
  if (!history.length) {
    svg.append(shape("text", { x: width / 2, y: SIZE.height / 2, "text-anchor": "middle" }, "no requests yet"));
    return svg;
  }
  const spans = buckets(history).filter((sum) => sum[1] > 0 || sum[4] > 0);
  const from = spans[0][0], to = spans[spans.length - 1][0];
  const right = width - SIZE.right, breadth = right - SIZE.left;
  const x = (at) => SIZE.left + breadth * (to > from ? (at - from) / (to - from) : 0.5);
  axes(svg, right, y, from, to);
  const planned = spans.filter((sum) => sum[1] > 0);
  line(svg, planned.map(([at, tokens, , plain]) => [x(at), y(plain / tokens)]), "other");
  line(svg, planned.map(([at, tokens, live]) => [x(at), y(live / tokens)]), "ours");
  for (const [at, , , , evicted] of spans) {
    if (evicted > 0) {
      svg.append(shape("line", { class: "cut", x1: x(at), x2: x(at), y1: y(0) + 2, y2: y(0) + 9 }));
    }
  }
  svg.append(shape("title", {}, "Hit ratio in percent of block tokens, over time"));
  return svg;
}
