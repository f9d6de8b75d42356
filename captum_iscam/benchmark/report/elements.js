// Elements, numbers and loading. Text from data enters the page as text alone: through
// `element`, never as markup.

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

function widthOf(place) {
  return Math.min(660, Math.max(320, place.clientWidth));
}

// The numbers of summary.md: percent with one decimal, the rest with three.
function number(value, unit, sign = "") {
  if (value === null || value === undefined) return "-";
  const text = Math.abs(value).toFixed(unit === "percent" ? 1 : 3);
  if (value < 0 && Number(text) !== 0) return "\u2212" + text;
  return sign + text;
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
  return name.replaceAll("_", " ");
}

function unitOf(metric) {
  const { unit, higher_is_better: higher } = report.run.metrics[metric];
  return `${higher ? "\u2191" : "\u2193"} ${unit === "percent" ? "%" : unit}`;
}

function titleOf(method) {
  return report.run.methods[method].title || method;
}

function holdsZero(pair) {
  return pair.low === null || (pair.low <= 0 && pair.high >= 0);
}

// Colours that differ in hue and lightness on light and dark paper; a second round dashed.
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

// Files of report_data are scripts, since a page of the file system may fetch nothing
// else. Each calls benchmarkReport with its name and its data.
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
      const failed = () => reject(new Error(`${file} is missing. Keep it beside this page.`));
      document.head.append(element("script", { src: file, error: failed }));
    }));
  }
  return loaded.get(name);
}
