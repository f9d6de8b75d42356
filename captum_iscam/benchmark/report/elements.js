// What all tabs use: the data, elements, numbers, colours, scales, loading, and the list
// of tabs.
//
// No library draws this page, for three reasons. It has to open from the file system and
// offline, so all of it is in one file. A chart library is some hundred kilobytes of code
// of others, and the page needs one table and two plots, which are 300 lines. And text
// from outside (names of files, classes and errors) may enter the page only as text: all
// elements are made by the two functions below, which never parse markup.
//
// How a tab uses this file:
//
// 1. It reads `report`, the content of summary.json, and `methods` and `models`, which
//    are in the order of the run.
// 2. It makes HTML by `element` and SVG by `drawn`. Both take a name, attributes (a
//    function is a listener, `true` an attribute without value, `false` and `null` none)
//    and children (nodes, texts, lists of both; `null` is skipped).
// 3. It writes means by `fixed` and `decimalsOf`, other numbers by `number`, `quantity` and
//    `count`, and names by `words`, `unitOf` and `titleOf`. Where `cannotJudge`, nothing of
//    a metric is bold; `judgingNote` says so.
// 4. It has the colours of methods from `colourOf`, `dashOf` and `swatch`, so that a method
//    looks the same everywhere.
// 5. It takes the ticks of an axis from `evenTicks` and `tickText`.
// 6. It loads values of single images by `load`.
// 7. It calls `registerTab`.

const report = JSON.parse(document.getElementById("data").textContent);
const methods = Object.keys(report.run.methods);
const models = Object.keys(report.run.models);

// Elements.

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null));
  return node;
}

function byId(id) {
  return document.getElementById(id);
}

function fillSelect(select, options) {
  select.replaceChildren(
    ...options.map(([value, text]) => element("option", { value }, text)),
  );
}

// Offers the metrics of a network, and keeps the choice where it can.
function offerMetrics(select, model) {
  if (select.dataset.model === model) return;
  select.dataset.model = model;
  const metrics = metricsOf(model);
  const before = select.value;
  const option = (metric) => [metric, `${words(metric)} (${directionOf(metric)})`];
  fillSelect(select, metrics.map(option));
  const usual = metrics.includes("insertion") ? "insertion" : metrics[0];
  select.value = metrics.includes(before) ? before : usual ?? "";
}

// A region that scrolls by itself, which keys can reach.
function scrolling(id, name) {
  return element("div", { id, class: "scroll", tabindex: "0", role: "region", "aria-label": name });
}

// Marks the sides on which a region has more than it shows; style.css fades them.
function markEdges(region) {
  const hidden = region.scrollWidth - region.clientWidth - region.scrollLeft;
  region.classList.toggle("more-left", region.scrollLeft > 1);
  region.classList.toggle("more-right", hidden > 1);
}

function widthOf(place) {
  return Math.min(660, Math.max(320, place.clientWidth));
}

// Numbers and names. Means and differences have the decimals of summary.md, which follow
// from their intervals; values of single images have one for percent and three otherwise.

function fixed(value, decimals, sign = "") {
  if (value === null || value === undefined) return "-";
  const text = Math.abs(value).toFixed(decimals);
  if (value < 0 && Number(text) !== 0) return "\u2212" + text;
  return sign + text;
}

function number(value, unit, sign = "") {
  return fixed(value, unit === "percent" ? 1 : 3, sign);
}

// `list` is "means" or "pairs".
function decimalsOf(list, model, metric) {
  return report.decimals[model][metric][list];
}

function quantity(value) {
  if (value === null || value === undefined) return "-";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

function count(n, thing) {
  return n === 1 ? `1 ${thing}` : `${n.toLocaleString("en")} ${thing}s`;
}

function words(name) {
  return report.titles[name] ?? name.replaceAll("_", " ");
}

function directionOf(metric) {
  const { higher_is_better: higher } = report.run.metrics[metric];
  if (higher === null) return "neither is better";
  return higher ? "\u2191 higher is better" : "\u2193 lower is better";
}

function unitOf(metric) {
  const { unit } = report.run.metrics[metric];
  return `${directionOf(metric)}, ${unit === "percent" ? "%" : unit}`;
}

function titleOf(method) {
  return report.run.methods[method].title || method;
}

// The data: metrics of a network, and entries of a list by method.

function metricsOf(model) {
  return [...new Set(
    report.means.filter((e) => e.model === model).map((e) => e.metric),
  )];
}

function entriesOf(list, model, metric) {
  return new Map(
    report[list]
      .filter((e) => e.model === model && e.metric === metric)
      .map((e) => [e.method, e]),
  );
}

// The test of a metric on a network: its share of right orders, rounded down, so that what
// is below the limit is shown below it; null where it was not tested.
function testOf(model, metric) {
  return report.metric_tests.find((e) => e.model === model && e.metric === metric) ?? null;
}

function cannotJudge(model, metric) {
  return testOf(model, metric)?.can_judge === false;
}

function judgingText(model, metric) {
  const share = testOf(model, metric)?.right_orders ?? null;
  if (share === null) return null;
  const percent = `${Math.floor(100 * share + 1e-4)}%`;
  return cannotJudge(model, metric) ? `cannot judge here (${percent})` : `right orders ${percent}`;
}

// The same, for a table's head or a line of its own.
function judgingNote(model, metric) {
  const doubt = cannotJudge(model, metric) ? "unit doubt" : "unit";
  const text = judgingText(model, metric);
  return text && element("span", { class: doubt }, text);
}

// Colours that differ in hue and lightness on light and dark paper. The eighth method has
// the first colour again, dashed.
const COLOURS = [
  "#0077bb", "#d9590b", "#10997f", "#c2569a", "#b08400", "#4aa8e8", "#7a5cc0",
];

function colourOf(method) {
  return COLOURS[methods.indexOf(method) % COLOURS.length];
}

function dashOf(method) {
  return ["", "6 3", "2 3"][Math.floor(methods.indexOf(method) / COLOURS.length) % 3];
}

function swatch(method) {
  const line = { x1: 0, x2: 18, y1: 4, y2: 4, stroke: colourOf(method) };
  return drawn(
    "svg",
    { class: "swatch", viewBox: "0 0 18 8", "aria-hidden": "true" },
    drawn("line", { ...line, "stroke-width": 3, "stroke-dasharray": dashOf(method) }),
  );
}

// Scales. The ticks are multiples of 1, 2 or 5 times a power of ten. The first is at or
// below `from`, the last at or above `to`, and there are about `about` steps between them.
function evenTicks(from, to, about) {
  const span = to - from || Math.abs(to) || 1;
  const power = 10 ** Math.floor(Math.log10(span / about));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power * about >= span);
  const [first, last] = [Math.floor(from / step), Math.ceil(to / step)];
  const count = Math.max(1, last - first);
  return Array.from({ length: count + 1 }, (_, i) => (first + i) * step);
}

// A tick, with as many decimals as it needs to differ from the next one.
function tickText(tick, ticks) {
  const decimals = Math.max(0, -Math.floor(Math.log10(ticks[1] - ticks[0]) + 1e-9));
  return tick.toFixed(Math.min(6, decimals));
}

// Loading. A page of the file system may fetch no data, but it may load scripts. So the
// files of report_data are scripts, each of which calls benchmarkReport with its name and
// its data.
const arriving = new Map();
const loaded = new Map();

function benchmarkReport(name, data) {
  arriving.get(name)?.(data);
}

function load(name) {
  if (!loaded.has(name)) {
    loaded.set(name, new Promise((resolve, reject) => {
      arriving.set(name, resolve);
      const file = `report_data/${name}.js`;
      const failed = () => reject(new Error(`${file} is missing. Keep it next to this page.`));
      document.head.append(element("script", { src: file, error: failed }));
    }));
  }
  return loaded.get(name);
}

// Tabs. A tab is one file, whose names are its own, and which calls registerTab once with
//
//   id       of its section, to which the navigation links
//   title    its name in the navigation
//   heading  the section's heading, where it differs from the title
//   order    its place: tabs of the package have 5 to 60. Default: 100
//   build(place, redraw)  fills the section's element with what stays, once; redraw()
//            draws this tab again
//   draw(place, model)    shows a network, at the start and whenever another is chosen
//   fitted   whether to draw again when the page has another width
//
// `build` and `draw` may each be missing. The simplest tab is { id, title, draw }.
const tabs = [];

function registerTab(tab) {
  tabs.push(tab);
}
